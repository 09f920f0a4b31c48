"""Golden outputs of the authors' program, and the weights and inputs that belong to them.

Weights follow from their names by a rule, so that only outputs are stored in `tests/data`:
`golden_outputs.npz` holds them, `state_dict_shapes.json` names and shapes of the state dicts.
"""

from __future__ import annotations

import json
import zlib
from functools import cache
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

DATA = Path(__file__).parent / "data"


@cache
def _shapes() -> dict:
    return json.loads((DATA / "state_dict_shapes.json").read_text())


@cache
def outputs() -> dict[str, np.ndarray]:
    with np.load(DATA / "golden_outputs.npz") as file:
        return dict(file)


def state_dict(key: str) -> dict[str, Tensor]:
    """The authors' state dict of a network or of a single module."""
    return {name: weight(name, shape) for name, shape in shapes(key).items()}


def shapes(key: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the authors' state dict of a network or of a single module."""
    stored = _shapes()
    entries = stored[key] if key in stored else stored["modules"][key]
    return {name: tuple(shape) for name, shape in entries.items()}


def golden_input(shape: tuple[int, ...], *, offset: int = 0) -> Tensor:
    rng = np.random.default_rng([_shapes()["seed"] + offset, 777])
    return torch.from_numpy(rng.standard_normal(shape).astype(np.float32))


def weight(name: str, shape: tuple[int, ...]) -> Tensor:
    """The weight that belongs to a name in the authors' state dicts."""
    rng = np.random.default_rng([_shapes()["seed"], zlib.crc32(name.encode())])
    z = np.asarray(rng.standard_normal(shape).astype(np.float32))
    if name.endswith("num_batches_tracked"):
        return torch.tensor(0)
    if name.endswith("running_var"):
        z = 1 + np.float32(0.1) * np.abs(z)
    elif name.endswith("running_mean"):
        z = np.float32(0.1) * z
    elif "layer_scale" in name:
        z = np.float32(0.5) + np.float32(0.1) * z
    elif z.ndim >= 2:
        z = z / np.sqrt(np.float32(prod(shape[1:])))
    elif name.endswith("bias"):
        z = np.float32(0.1) * z
    elif z.size == 1:
        z = np.full(shape, 0.25, dtype=np.float32)
    else:
        z = 1 + np.float32(0.1) * z
    return torch.from_numpy(np.asarray(z, dtype=np.float32))
