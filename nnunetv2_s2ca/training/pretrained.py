"""Start from the weights of another S2CA-Net, whatever its patch size and outputs were."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from nnunetv2.run import run_training
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import Tensor, nn
from torch._dynamo import OptimizedModule
from torch.nn.parallel import DistributedDataParallel

from nnunetv2_s2ca.training.network_from_plans import PLANS_KEY

# Parts of the network that fit one dataset: heads, and the projections whose size is the length
# of the axis that they fold.
REPLACEABLE = (".seg_layers.", ".squeeze.", ".expand.")


def adapt_weights(
    weights: Mapping[str, Tensor], network: nn.Module
) -> tuple[dict[str, Tensor], list[str]]:
    """Fit the weights of one S2CA-Net to another.

    Heads are never taken over, as in nnU-Net; folded projections where they are of another length
    are not, either: the network keeps its own.

    Args:
        weights: state dict of the pretrained network.
        network: the network to be trained.

    Returns:
        A full state dict for `network`, and the names of the entries that are the network's own.

    Raises:
        ValueError: if the networks differ by more.
    """
    own = network.state_dict()
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
    override: its command calls the loader as a function. So we put ours in that place.

    Beside `adapt_weights`, it raises ValueError for a network whose plans exchange axes, if this
    one's do not, or the other way round.

    Args:
        log: where the names of the entries that start anew go.
    """

    def load(network: nn.Module, fname: str, verbose: bool = False) -> None:
        module = network.module if isinstance(network, DistributedDataParallel) else network
        if isinstance(module, OptimizedModule):
            module = module._orig_mod
        # as nnU-Net: its checkpoints hold more than weights
        checkpoint = torch.load(fname, map_location="cpu", weights_only=False)
        weights, kept = adapt_weights(checkpoint["network_weights"], module)
        if "init_args" in checkpoint:
            _check_axes(checkpoint["init_args"], module)
        module.load_state_dict(weights)
        log(f"Loaded pretrained weights from {fname}.")
        log(f"These start anew, being heads or of another patch size: {', '.join(kept)}.")

    run_training.load_pretrained_weights = load


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
