"""Describe a checkpoint of the authors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nnunetv2_s2ca.checkpoints.network import BRANCH_LEVELS, translate_checkpoint
from nnunetv2_s2ca.checkpoints.reading import read_checkpoint


def describe_checkpoint(file: Path, *, trust: bool = False) -> str:
    """What a checkpoint of the authors holds, in a few lines.

    Raises:
        UserError: It is not a checkpoint of S2CA-Net.
    """
    checkpoint = read_checkpoint(file, trust=trust)
    translated = translate_checkpoint(checkpoint)
    architecture = translated.architecture
    patch_size = "×".join(map(str, architecture.patch_size))
    parameters = sum(parameter.numel() for parameter in architecture.build().parameters())
    rows = {
        "format": f"a dict with {', '.join(checkpoint.keys)}"
        if checkpoint.keys
        else "a state dict",
        "saved from": "DataParallel" if checkpoint.parallel else "the network itself",
        "epoch": "unknown" if checkpoint.epoch is None else str(checkpoint.epoch),
        "entries": f"{len(checkpoint.weights)}; a forward pass uses {len(translated.weights)}",
        "parameters": f"{parameters:,} in use",
        "input": f"{architecture.input_channels} channels, patches of {patch_size}",
        "output": f"{architecture.num_classes} channels",
        "features": " ".join(map(str, architecture.features_per_stage)),
        "LGSM, encoder": _describe_branches(architecture.encoder_branches),
        "LGSM, decoder": _describe_branches(architecture.decoder_branches),
    }
    width = max(map(len, rows))
    return "\n".join([str(file), *(f"  {key:{width}}  {value}" for key, value in rows.items())])


def _describe_branches(branches: Sequence[tuple[int, int]]) -> str:
    return "; ".join(
        f"level {level}: {width} wide, {depth} {'block' if depth == 1 else 'blocks'}"
        for level, (width, depth) in zip(BRANCH_LEVELS, branches, strict=True)
    )
