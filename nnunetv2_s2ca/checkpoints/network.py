"""The network that a state dict belongs to, found from names and shapes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nnunetv2_s2ca.architecture.s2ca_net import NUM_STAGES, S2CANet
from nnunetv2_s2ca.checkpoints.names import translate_state_dict
from nnunetv2_s2ca.checkpoints.reading import AuthorsCheckpoint
from nnunetv2_s2ca.errors import UserError

STRIDES = ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2))
BRANCH_LEVELS = (2, 3)
LISTED = 50  # entries of each kind that an error lists


@dataclass(frozen=True)
class Architecture:
    """What a state dict says of its network; the authors know only cubes and strides of 2."""

    input_channels: int
    num_classes: int
    patch_size: tuple[int, int, int]
    features_per_stage: tuple[int, ...]
    encoder_branches: tuple[tuple[int, int], ...]  # (width, number of blocks) at level 2 and 3
    decoder_branches: tuple[tuple[int, int], ...]

    def network_arguments(self) -> dict[str, Any]:
        """Keyword arguments of `S2CANet` by which this network differs from another."""
        return {
            "features_per_stage": self.features_per_stage,
            "encoder_branches": self.encoder_branches,
            "decoder_branches": self.decoder_branches,
            # all weights of the authors were trained with it
            "swap_axes": True,
        }

    def build(self) -> S2CANet:
        """The network without memory for its weights, to compare names and shapes with."""
        with torch.device("meta"):
            return S2CANet(
                self.input_channels,
                self.num_classes,
                patch_size=self.patch_size,
                strides=STRIDES,
                **self.network_arguments(),
            )


@dataclass(frozen=True)
class TranslatedCheckpoint:
    """A complete state dict of `S2CANet` from a file of the authors; channels are still theirs."""

    path: Path
    weights: dict[str, Tensor]
    architecture: Architecture


def translate_checkpoint(checkpoint: AuthorsCheckpoint) -> TranslatedCheckpoint:
    """Find a file's architecture, and bring its weights under our names.

    Raises:
        UserError: if the file is not S2CA-Net's; lists what is missing, left over or of a wrong
            shape.
    """
    try:
        weights = translate_state_dict(checkpoint.weights)
        architecture = _find_architecture(weights)
        expected = architecture.build().state_dict()
    except (ArithmeticError, IndexError, RuntimeError, ValueError) as error:
        raise UserError(
            f"{checkpoint.path} holds {len(checkpoint.weights)} entries, such as "
            f"{_enumerate(checkpoint.weights, limit=3)}, from which no S2CA-Net can be made out "
            f"({error}). Expected the state dict of the authors' network"
        ) from error
    theirs = {id(tensor): name for name, tensor in checkpoint.weights.items()}
    trouble = {
        "missing": [name for name in expected if name not in weights],
        "left over": [theirs[id(weights[name])] for name in weights if name not in expected],
        "of a wrong shape": [
            f"{theirs[id(tensor)]} {list(tensor.shape)} instead of {list(expected[name].shape)}"
            for name, tensor in weights.items()
            if name in expected and tensor.shape != expected[name].shape
        ],
        "not finite": [
            theirs[id(tensor)] for tensor in weights.values() if not tensor.isfinite().all()
        ],
    }
    if any(trouble.values()):
        lines = [
            f"{len(names)} {kind}: {_enumerate(names, limit=LISTED)}"
            for kind, names in trouble.items()
            if names
        ]
        raise UserError(
            f"{checkpoint.path} does not fit S2CA-Net; entries\n  " + "\n  ".join(lines)
        )
    return TranslatedCheckpoint(checkpoint.path, weights, architecture)


def _find_architecture(weights: Mapping[str, Tensor]) -> Architecture:
    length = _only_match(weights, rf"encoder\.branches\.{BRANCH_LEVELS[0]}\.squeeze\.(\d+)\.weight")
    return Architecture(
        input_channels=_size(weights, "encoder.stages.0.unit1.depthwise.weight"),
        num_classes=_size(weights, "decoder.seg_layers.0.weight"),
        # the fold at this level is as long as the patch, divided by the strides so far
        patch_size=(int(length) * 2 ** BRANCH_LEVELS[0],) * 3,
        features_per_stage=tuple(
            _size(weights, f"encoder.stages.{level}.unit1.pointwise.weight")
            for level in range(NUM_STAGES)
        ),
        encoder_branches=_find_branches(weights, "encoder"),
        decoder_branches=_find_branches(weights, "decoder"),
    )


def _find_branches(weights: Mapping[str, Tensor], side: str) -> tuple[tuple[int, int], ...]:
    return tuple(
        (
            _size(weights, f"{side}.branches.{level}.embed.weight"),
            len(_matches(weights, rf"{side}\.branches\.{level}\.blocks\.(\d+)\..*")),
        )
        for level in BRANCH_LEVELS
    )


def _size(weights: Mapping[str, Tensor], name: str) -> int:
    if name not in weights:
        raise ValueError(f"{name} is missing")
    return weights[name].shape[0]


def _only_match(names: Iterable[str], pattern: str) -> str:
    found = _matches(names, pattern)
    if len(found) != 1:
        raise ValueError(f"there are {len(found)} entries like {pattern}, not one")
    return found.pop()


def _matches(names: Iterable[str], pattern: str) -> set[str]:
    """What the pattern's group matches in the names."""
    return {match[1] for match in (re.fullmatch(pattern, name) for name in names) if match}


def _enumerate(names: Iterable[str], *, limit: int) -> str:
    listed = list(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more
