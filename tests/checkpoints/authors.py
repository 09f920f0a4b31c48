"""Files as S2CA-Net's authors save them, of small networks and of theirs."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from nnunetv2_s2ca import S2CANet
from nnunetv2_s2ca.checkpoints.names import translate_state_dict
from tests import golden

SMALL = {
    "features_per_stage": (8, 16, 32, 64),
    "encoder_branches": ((32, 2), (48, 1)),
    "decoder_branches": ((32, 1), (48, 1)),
}


def small_state_dict(
    *, patch_size: int = 32, inputs: int = 4, outputs: int = 4, seed: int = 0, **arguments
) -> dict[str, Tensor]:
    """State dict of a network smaller than the authors', under their names."""
    with torch.device("meta"):
        network = S2CANet(inputs, outputs, patch_size=(patch_size,) * 3, **{**SMALL, **arguments})
    ours = network.state_dict()
    state = {}
    for name, (our_name, shape) in _translations().items():
        if our_name is not None:
            our_name = re.sub(
                r"(branches\.(\d)\.(?:squeeze|expand))\.\d+",
                lambda match: f"{match[1]}.{patch_size // 2 ** int(match[2])}",
                our_name,
            )
            if our_name not in ours:
                continue  # a block more than this network has
            shape = tuple(ours.pop(our_name).shape)
        weight = golden.weight(name, shape)
        # another seed, another fold
        state[name] = weight if not weight.is_floating_point() else weight * (1 + 0.1 * seed)
    assert not ours, f"no authors' name for {list(ours)}"
    return state


@cache
def _translations() -> dict[str, tuple[str | None, tuple[int, ...]]]:
    """The authors' name → ours, None if dropped, and the shape in their largest network."""
    shapes = golden.shapes("s2ca_net_release")
    state = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    ours = {id(tensor): name for name, tensor in translate_state_dict(state).items()}
    return {name: (ours.get(id(tensor)), shapes[name]) for name, tensor in state.items()}


def save(
    path: Path, state: dict[str, Tensor], *, parallel: bool = True, zipped: bool = True, **extra
) -> Path:
    """Save a state dict as the authors' program does, with what stands beside it there."""
    prefix = "module." if parallel else ""
    content = {
        "net": {f"{prefix}{name}": tensor for name, tensor in state.items()},
        "optimizer": {"state": {}, "param_groups": [{"lr": 1e-3}]},
        "scheduler": {"last_epoch": 399},
        "epoch": 399,
        **extra,
    }
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def network_of(state: dict[str, Tensor], *, patch_size: int = 32, **arguments) -> S2CANet:
    """The authors' network with their weights, for their channels; in eval mode, all heads."""
    network = S2CANet(4, 4, patch_size=(patch_size,) * 3, swap_axes=True, **{**SMALL, **arguments})
    network.load_state_dict(translate_state_dict(state))
    return network.eval()
