"""Infer the network from the names and shapes of the authors' state dict."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nnunetv2_s2ca.architecture.s2ca_net import S2CANet
from nnunetv2_s2ca.checkpoints.names import authors_name, unused_names
from nnunetv2_s2ca.checkpoints.reading import AuthorsCheckpoint
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.text import excerpt, listed

STRIDES = ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2))
BRANCH_LEVELS = (2, 3)
LISTED = 50  # entries of each kind that an error lists
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Architecture:
    """The network of a state dict; the authors' networks have cubic patches and strides of 2."""

    input_channels: int
    num_classes: int
    patch_size: tuple[int, int, int]
    features_per_stage: tuple[int, ...]
    encoder_branches: tuple[tuple[int, int], ...]  # (width, number of blocks) at level 2 and 3
    decoder_branches: tuple[tuple[int, int], ...]

    def network_arguments(self) -> dict[str, Any]:
        """Keyword arguments of `S2CANet` that plans and dataset do not determine."""
        return {
            "features_per_stage": self.features_per_stage,
            "encoder_branches": self.encoder_branches,
            "decoder_branches": self.decoder_branches,
            # as in the authors' program
            "swap_axes": True,
        }

    def build(self) -> S2CANet:
        """The network on the meta device, for its names and shapes."""
        with torch.device("meta"):
            return S2CANet(
                self.input_channels,
                self.num_classes,
                patch_size=self.patch_size,
                strides=STRIDES,
                **self.network_arguments(),
            )


# the released network; its sizes serve where a file lacks entries
RELEASED = Architecture(
    input_channels=4,
    num_classes=4,
    patch_size=(128, 128, 128),
    features_per_stage=(16, 32, 64, 128),
    encoder_branches=((360, 6), (512, 2)),
    decoder_branches=((360, 6), (512, 2)),
)


@dataclass(frozen=True)
class TranslatedCheckpoint:
    """A complete float32 state dict of `S2CANet` from a file, in the authors' channel order."""

    path: Path
    weights: dict[str, Tensor]
    architecture: Architecture


def translate_checkpoint(checkpoint: AuthorsCheckpoint) -> TranslatedCheckpoint:
    """Infer a file's architecture and rename its weights.

    Raises:
        UserError: The file does not fit S2CA-Net; lists entries that are missing, unknown, of a
            wrong shape, not weights, or not finite.
    """
    found = checkpoint.weights
    hollow = [name for name, tensor in found.items() if _is_hollow(tensor)]
    if hollow:
        raise UserError(
            f"{checkpoint.path} holds fewer numbers than the shapes of its entries say: "
            f"{listed(map(excerpt, hollow), limit=3)}. No training saves such a checkpoint"
        )
    try:
        architecture = _find_architecture(found)
        network = architecture.build().state_dict()
    except (ArithmeticError, IndexError, RuntimeError, ValueError) as error:
        reason = f"whose sizes fit no S2CA-Net ({excerpt(str(error))})"
        raise _not_s2ca_net(checkpoint, reason) from error
    ours = {authors_name(name): name for name in network}
    if ours.keys().isdisjoint(found):
        raise _not_s2ca_net(checkpoint, "none of them S2CA-Net's")
    expected = {name: network[our_name] for name, our_name in ours.items()}
    given = {name: found[name] for name in expected if name in found}
    known = expected.keys() | unused_names(expected)
    strange = [name for name, tensor in given.items() if not _is_weight(tensor, expected[name])]
    weights = {
        name: tensor.detach().float() if expected[name].is_floating_point() else tensor
        for name, tensor in given.items()
        if name not in strange
    }
    problems = {
        "missing": [name for name in expected if name not in given],
        "unknown": [excerpt(name) for name in found if name not in known],
        "of a wrong shape": [
            f"{name} {excerpt(str(list(tensor.shape)))} instead of {list(expected[name].shape)}"
            for name, tensor in given.items()
            if tensor.shape != expected[name].shape
        ],
        "not a weight": [
            f"{name} ({found[name].dtype}, {found[name].layout}, on {found[name].device})"
            for name in strange
        ],
        # also what float32 cannot hold
        "not finite": [name for name, tensor in weights.items() if not tensor.isfinite().all()],
    }
    if any(problems.values()):
        lines = [
            f"{len(names)} {kind}: {listed(names, limit=LISTED)}"
            for kind, names in problems.items()
            if names
        ]
        raise UserError(
            f"{checkpoint.path} does not fit S2CA-Net; entries\n  " + "\n  ".join(lines)
        )
    return TranslatedCheckpoint(
        checkpoint.path, {ours[name]: tensor for name, tensor in weights.items()}, architecture
    )


def _not_s2ca_net(checkpoint: AuthorsCheckpoint, why: str) -> UserError:
    some = listed(map(excerpt, checkpoint.weights), limit=3)
    return UserError(
        f"{checkpoint.path} holds {len(checkpoint.weights)} entries, such as {some}, {why}. "
        "Expected the state dict of the authors' network"
    )


def _is_hollow(tensor: Tensor) -> bool:
    """Whether a tensor's shape claims more numbers than its storage has."""
    if tensor.layout is not torch.strided or tensor.is_meta:
        return False  # not a weight
    return tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()


def _is_weight(tensor: Tensor, expected: Tensor) -> bool:
    dtypes = DTYPES if expected.is_floating_point() else (expected.dtype,)
    return tensor.layout is torch.strided and not tensor.is_meta and tensor.dtype in dtypes


def _find_architecture(weights: Mapping[str, Tensor]) -> Architecture:
    """Infer the network; sizes that no entry shows are the released network's."""
    encoder, decoder = r"backbone\.former{}_0", r"former{}_1"
    # for a missing branch, the one on the other side is the best guess
    encoder_default = _find_branches(weights, decoder, RELEASED.decoder_branches)
    decoder_default = _find_branches(weights, encoder, RELEASED.encoder_branches)
    patch_size = RELEASED.patch_size
    level = BRANCH_LEVELS[0]
    squeeze = _first(weights, rf"(backbone\.)?former{level}_\d\.conv1x1_down\.weight")
    if squeeze is not None:
        # the folded axis is as long as the patch divided by the strides down to this level
        patch_size = (squeeze.shape[1] // squeeze.shape[0] * 2**level,) * 3
    inputs = r"backbone\.conv0_0\.conv1\.dwconv\.weight"
    return Architecture(
        input_channels=_size(weights, inputs, RELEASED.input_channels),
        num_classes=_size(weights, r"convds\d\.(weight|bias)", RELEASED.num_classes),
        patch_size=patch_size,
        features_per_stage=tuple(
            _size(weights, rf"backbone\.conv{level}_0\.conv1\.pwconv\.(weight|bias)", features)
            for level, features in enumerate(RELEASED.features_per_stage)
        ),
        encoder_branches=_find_branches(weights, encoder, encoder_default),
        decoder_branches=_find_branches(weights, decoder, decoder_default),
    )


def _find_branches(
    weights: Mapping[str, Tensor], module: str, default: Sequence[tuple[int, int]]
) -> tuple[tuple[int, int], ...]:
    branches = []
    for level, (width, depth) in zip(BRANCH_LEVELS, default, strict=True):
        former = rf"{module.format(level)}\.poolformer"
        embedded = rf"{former}\.(patch_embed\.proj|norm)\.(weight|bias)"
        blocks = [
            int(match[1])
            for match in (re.match(rf"{former}\.network\.0\.(\d\d?)\.", name) for name in weights)
            if match
        ]
        branches.append((_size(weights, embedded, width), max(blocks, default=depth - 1) + 1))
    return tuple(branches)


def _size(weights: Mapping[str, Tensor], pattern: str, default: int) -> int:
    """Length of the first axis of the first match; the default if there is none."""
    tensor = _first(weights, pattern)
    return default if tensor is None else tensor.shape[0]


def _first(weights: Mapping[str, Tensor], pattern: str) -> Tensor | None:
    return next((weights[name] for name in weights if re.fullmatch(pattern, name)), None)
