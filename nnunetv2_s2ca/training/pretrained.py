"""Start from the weights of another S2CA-Net, whatever its patch size and outputs were."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from nnunetv2.run import run_training  # noqa: F401 (the module must be there to be changed)
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import Tensor, nn
from torch._dynamo import OptimizedModule
from torch.nn.parallel import DistributedDataParallel

from nnunetv2_s2ca.architecture.s2ca_net import S2CANet
from nnunetv2_s2ca.training.network_from_plans import PLANS_KEY

# Parts of the network that fit one dataset: heads, the projections whose size is the length of the
# axis that they fold, and the kernels of the size of a stride.
REPLACEABLE = (
    ".seg_layers.",
    ".squeeze.",
    ".expand.",
    "bottleneck.down.",
    "skips.up.",
    "skips.to_skips.",
)
FIRST_LAYER = "encoder.stages.0.unit1.depthwise.weight"
# by what PyTorch's reader fails on bytes that are no checkpoint; lines of text may pass for pickle
NOT_READ = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
)


def adapt_weights(
    weights: Mapping[str, Tensor], network: nn.Module
) -> tuple[dict[str, Tensor], list[str]]:
    """Fit the weights of one S2CA-Net to another.

    Heads are never taken over, as in nnU-Net; folded projections of another length and kernels of
    another stride are not, either: the network keeps its own.

    Args:
        weights: state dict of the pretrained network.
        network: the network to be trained.

    Returns:
        A full state dict for `network`, and the names of the entries that are the network's own.

    Raises:
        ValueError: if the networks differ by more.
    """
    own = network.state_dict()
    if FIRST_LAYER in weights and len(weights[FIRST_LAYER]) != len(own[FIRST_LAYER]):
        raise ValueError(
            f"the numbers of input channels differ: {len(weights[FIRST_LAYER])} in the pretrained "
            f"network, {len(own[FIRST_LAYER])} in this one. Pretrain on as many channels"
        )
    taken = {
        name: weights[name]
        for name, tensor in own.items()
        if ".seg_layers." not in name and name in weights and weights[name].shape == tensor.shape
    }
    kept = [name for name in own if name not in taken]
    strange = [name for name in kept if not any(part in name for part in REPLACEABLE)]
    strange += [
        name
        for name in weights
        if name not in own and not any(part in name for part in REPLACEABLE)
    ]
    if strange:
        raise ValueError(
            f"the pretrained weights belong to another kind of network than this trainer's. "
            f"{len(strange)} entries differ, the first of them {', '.join(strange[:5])}. "
            f"Pretrain with the same trainer, or choose the trainer of the pretrained network."
        )
    return {**own, **taken}, kept


def use_lenient_loader(log: Callable[[str], None]) -> None:
    """Make `-pretrained_weights` accept another patch size, in this process.

    nnU-Net's loader insists on equal shapes for all but the heads, and leaves a trainer nothing to
    override: its command calls the loader as a function. So we put ours in that place, which leaves
    all networks but S2CA-Net to nnU-Net's.

    Beside `adapt_weights`, it raises ValueError for a network whose plans exchange axes, if this
    one's do not, or the other way round.

    Args:
        log: where the names of the entries that start anew go.
    """

    def load(network: nn.Module, fname: str, verbose: bool = False) -> None:
        module = network.module if isinstance(network, DistributedDataParallel) else network
        if isinstance(module, OptimizedModule):
            module = module._orig_mod
        if not isinstance(module, S2CANet):
            load_pretrained_weights(network, fname, verbose)
            return
        try:
            checkpoint = _read(fname)
            weights, kept = adapt_weights(checkpoint["network_weights"], module)
            if "init_args" in checkpoint:
                _check_axes(checkpoint["init_args"], module)
        except ValueError as error:
            raise ValueError(f"{fname}: {error}") from error
        module.load_state_dict(weights)
        log(f"Loaded pretrained weights from {fname}.")
        log(f"These start anew, being heads or of another patch size or stride: {', '.join(kept)}.")

    # the command is a script, a function of nnU-Net's, or `python -m`
    for name in ("nnunetv2.run.run_training", "__main__"):
        if hasattr(sys.modules.get(name), "load_pretrained_weights"):
            sys.modules[name].load_pretrained_weights = load  # type: ignore[attr-defined]


def _read(path: str) -> dict[str, Any]:
    try:
        # as nnU-Net: its checkpoints hold more than weights
        checkpoint = torch.load(path, map_location="cpu", weights_only=False)
    except NOT_READ as error:
        raise ValueError("is damaged or no checkpoint; expected one of nnU-Net's") from error
    if not isinstance(checkpoint, dict) or "network_weights" not in checkpoint:
        raise ValueError(
            "is no checkpoint of nnU-Net's, which holds network_weights; the authors' files become "
            "one by s2ca import-checkpoint"
        )
    return checkpoint


def _check_axes(init_args: Mapping[str, Any], network: nn.Module) -> None:
    """Refuse a pretrained network that sees other axes; no name or shape of its weights tells."""
    plans = PlansManager(init_args["plans"])
    configuration = plans.get_configuration(init_args["configuration"]).configuration
    swaps = configuration.get(PLANS_KEY, {}).get("swap_axes", False)
    if swaps != any(getattr(module, "swap_axes", False) for module in network.modules()):
        raise ValueError(
            f"the pretrained network {'exchanges' if swaps else 'does not exchange'} two axes in "
            f"its VAS-MLP (`swap_axes` of its plans {plans.plans_name}), unlike the network to be "
            f"trained. Train with the pretrained network's plans: -p {plans.plans_name}"
        )
