"""Files as S2CA-Net's authors save them, of small networks and of theirs."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from nnunetv2_s2ca import S2CANet
from nnunetv2_s2ca.checkpoints.names import authors_name, unused_names
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
    shapes = {authors_name(name): tuple(t.shape) for name, t in network.state_dict().items()}
    released = golden.shapes("s2ca_net_release")
    shapes |= {name: released[name] for name in unused_names(shapes)}
    # another seed, another fold
    weights = {name: golden.weight(name, shape) for name, shape in shapes.items()}
    return {  # another seed, another fold
        name: weight * (1 + 0.1 * seed) if weight.is_floating_point() else weight
        for name, weight in weights.items()
    }


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def save(
    path: Path, state: dict[str, Tensor], *, parallel: bool = True, zipped: bool = True, **extra
) -> Path:
    """Save a state dict as the authors' program does, with the other entries that it has there."""
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
    network.load_state_dict({name: state[authors_name(name)] for name in network.state_dict()})
    return network.eval()
