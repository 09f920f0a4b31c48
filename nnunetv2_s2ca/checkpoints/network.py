"""The network that a state dict belongs to, found from the authors' names and shapes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nnunetv2_s2ca.architecture.s2ca_net import S2CANet
from nnunetv2_s2ca.checkpoints.names import authors_name, unused_names
from nnunetv2_s2ca.checkpoints.reading import AuthorsCheckpoint
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.text import excerpt

STRIDES = ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2))
BRANCH_LEVELS = (2, 3)
LISTED = 50  # entries of each kind that an error lists
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


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


# of the authors' files; what a file lacks is listed as it is there
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
    """A complete float32 state dict of `S2CANet` from a file; channels are still the authors'."""

    path: Path
    weights: dict[str, Tensor]
    architecture: Architecture


def translate_checkpoint(checkpoint: AuthorsCheckpoint) -> TranslatedCheckpoint:
    """Find a file's architecture, and bring its weights under our names.

    Raises:
        UserError: if the file is not S2CA-Net's; lists what is missing, left over, of a wrong
            shape, no weights, or not finite.
    """
    found = checkpoint.weights
    hollow = [name for name, tensor in found.items() if _is_hollow(tensor)]
    if hollow:
        raise UserError(
            f"{checkpoint.path} holds fewer numbers than the shapes of its entries say: "
            f"{_enumerate(map(excerpt, hollow), limit=3)}. No training saves such a checkpoint"
        )
    try:
        architecture = _find_architecture(found)
        network = architecture.build().state_dict()
    except (ArithmeticError, IndexError, RuntimeError, ValueError) as error:
        reason = f"from whose sizes no S2CA-Net can be made ({excerpt(str(error))})"
        raise _not_s2ca_net(checkpoint, reason) from error
    ours = {authors_name(name): name for name in network}
    if ours.keys().isdisjoint(found):
        raise _not_s2ca_net(checkpoint, "none of which S2CA-Net's authors have")
    expected = {name: network[our_name] for name, our_name in ours.items()}
    given = {name: found[name] for name in expected if name in found}
    known = expected.keys() | unused_names(expected)
    strange = [name for name, tensor in given.items() if not _is_weight(tensor, expected[name])]
    weights = {
        name: tensor.detach().float() if expected[name].is_floating_point() else tensor
        for name, tensor in given.items()
        if name not in strange
    }
    trouble = {
        "missing": [name for name in expected if name not in given],
        "left over": [excerpt(name) for name in found if name not in known],
        "of a wrong shape": [
            f"{name} {excerpt(str(list(tensor.shape)))} instead of {list(expected[name].shape)}"
            for name, tensor in given.items()
            if tensor.shape != expected[name].shape
        ],
        "of a kind that is no weight": [
            f"{name} ({found[name].dtype}, {found[name].layout}, on {found[name].device})"
            for name in strange
        ],
        # also what float32 cannot hold
        "not finite": [name for name, tensor in weights.items() if not tensor.isfinite().all()],
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
    return TranslatedCheckpoint(
        checkpoint.path, {ours[name]: tensor for name, tensor in weights.items()}, architecture
    )


def _not_s2ca_net(checkpoint: AuthorsCheckpoint, why: str) -> UserError:
    some = _enumerate(map(excerpt, checkpoint.weights), limit=3)
    return UserError(
        f"{checkpoint.path} holds {len(checkpoint.weights)} entries, such as {some}, {why}. "
        "Expected the state dict of the authors' network"
    )


def _is_hollow(tensor: Tensor) -> bool:
    """Whether a tensor repeats numbers of its storage, so that its shape costs nothing to claim."""
    if tensor.layout is not torch.strided or tensor.is_meta:
        return False  # no weight
    return tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()


def _is_weight(tensor: Tensor, expected: Tensor) -> bool:
    dtypes = DTYPES if expected.is_floating_point() else (expected.dtype,)
    return tensor.layout is torch.strided and not tensor.is_meta and tensor.dtype in dtypes


def _find_architecture(weights: Mapping[str, Tensor]) -> Architecture:
    """The network of these sizes; for what no entry tells, the released one's."""
    encoder, decoder = r"backbone\.former{}_0", r"former{}_1"
    # of a branch that is missing, the one across says most
    encoder_default = _find_branches(weights, decoder, RELEASED.decoder_branches)
    decoder_default = _find_branches(weights, encoder, RELEASED.encoder_branches)
    patch_size = RELEASED.patch_size
    level = BRANCH_LEVELS[0]
    squeeze = _first(weights, rf"(backbone\.)?former{level}_\d\.conv1x1_down\.weight")
    if squeeze is not None:
        # the fold at this level is as long as the patch, divided by the strides so far
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
    """Length of the first axis of what a pattern matches first; the default if it matches none."""
    tensor = _first(weights, pattern)
    return default if tensor is None else tensor.shape[0]


def _first(weights: Mapping[str, Tensor], pattern: str) -> Tensor | None:
    return next((weights[name] for name in weights if re.fullmatch(pattern, name)), None)


def _enumerate(names: Iterable[str], *, limit: int) -> str:
    listed = list(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more
