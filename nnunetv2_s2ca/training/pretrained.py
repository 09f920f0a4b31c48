"""Start from the weights of another S2CA-Net, even of another patch size or other outputs."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from nnunetv2.run import run_training  # noqa: F401 (imported to be patched)
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import Tensor, nn
from torch._dynamo import OptimizedModule
from torch.nn.parallel import DistributedDataParallel

from nnunetv2_s2ca.architecture.s2ca_net import S2CANet
from nnunetv2_s2ca.training.network_from_plans import PLANS_KEY

# Parts that depend on dataset and plans: heads, projections along a folded axis, and kernels as
# large as a stride
REPLACEABLE = (
    ".seg_layers.",
    ".squeeze.",
    ".expand.",
    "bottleneck.down.",
    "skips.up.",
    "skips.to_skips.",
)
FIRST_LAYER = "encoder.stages.0.unit1.depthwise.weight"
# what PyTorch raises for files other than checkpoints; some text is valid pickle
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

    As in nnU-Net, heads are never transferred. Nor are projections along a folded axis of another
    length, and kernels of another stride; `network` keeps its own.

    Args:
        weights: State dict of the pretrained network.
        network: The network to train.

    Returns:
        A full state dict for `network`, and the names of the entries that are not transferred.

    Raises:
        ValueError: The networks differ in other parts.
    """
    own = network.state_dict()
    if FIRST_LAYER in weights and len(weights[FIRST_LAYER]) != len(own[FIRST_LAYER]):
        raise ValueError(
            f"the numbers of input channels differ: {len(weights[FIRST_LAYER])} in the pretrained "
            f"network, {len(own[FIRST_LAYER])} in this one. Pretrain on the same channels"
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
            f"the pretrained network and this trainer's differ in {len(strange)} entries, such as "
            f"{', '.join(strange[:5])}. Use the same trainer for both"
        )
    return {**own, **taken}, kept


def use_lenient_loader(log: Callable[[str], None]) -> None:
    """Make `-pretrained_weights` accept another patch size, in this process.

    nnU-Net's loader requires equal shapes in all layers but the heads. Its command calls it as a
    function, so a trainer cannot override it, and we replace that function. Networks other than
    S2CA-Net still go to nnU-Net's loader.

    Ours raises ValueError as `adapt_weights` does, and if only one of the two networks swaps axes.

    Args:
        log: Receives a message that names the reinitialised entries.
    """

    def load(network: nn.Module, fname: str, verbose: bool = False) -> None:
        module = unwrapped(network)
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
        log(f"Reinitialised (heads, or shape mismatch): {', '.join(kept)}.")

    # imported by nnU-Net's script, or itself the main module
    for name in ("nnunetv2.run.run_training", "__main__"):
        if hasattr(sys.modules.get(name), "load_pretrained_weights"):
            sys.modules[name].load_pretrained_weights = load  # type: ignore[attr-defined]


def unwrapped(network: nn.Module) -> nn.Module:
    """The network without the wrappers of data-parallel training and compilation."""
    module = network.module if isinstance(network, DistributedDataParallel) else network
    return module._orig_mod if isinstance(module, OptimizedModule) else module


def _read(path: str) -> dict[str, Any]:
    try:
        # as nnU-Net does, whose checkpoints hold more than weights
        checkpoint = torch.load(path, map_location="cpu", weights_only=False)
    except NOT_READ as error:
        raise ValueError("is damaged or not a checkpoint; expected one of nnU-Net's") from error
    if not isinstance(checkpoint, dict) or "network_weights" not in checkpoint:
        raise ValueError(
            "is not a checkpoint of nnU-Net, since it has no network_weights; convert the authors' "
            "files with s2ca import-checkpoint"
        )
    return checkpoint


def _check_axes(init_args: Mapping[str, Any], network: nn.Module) -> None:
    """Refuse a pretrained network with other axes, which names and shapes do not show."""
    plans = PlansManager(init_args["plans"])
    configuration = plans.get_configuration(init_args["configuration"]).configuration
    swaps = configuration.get(PLANS_KEY, {}).get("swap_axes", False)
    if swaps != any(getattr(module, "swap_axes", False) for module in network.modules()):
        raise ValueError(
            f"the pretrained network {'swaps' if swaps else 'does not swap'} two axes in its "
            f"VAS-MLP (`swap_axes` in its plans {plans.plans_name}), unlike the network to train. "
            f"Train with the pretrained network's plans: -p {plans.plans_name}"
        )
