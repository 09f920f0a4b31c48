"""`s2ca export-network`: write the network and its description, or nothing if they differ."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from nnunetv2_s2ca.core.added_files import added_files
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.network_export.description import describe_network
from nnunetv2_s2ca.network_export.formats import FORMATS, INPUT, OUTPUT, Format
from nnunetv2_s2ca.network_export.trained_network import TrainedNetwork, load_trained_network

TOLERANCE = 1e-4  # of logits up to 1; above that, of the largest


def export_network(
    model: Path,
    output: Path,
    *,
    format_name: str,
    fold: str,
    checkpoint: str,
    overwrite: bool,
) -> tuple[Path, Path, float]:
    """Write `fold_N.FORMAT` and `fold_N.FORMAT.json`, both or none.

    Args:
        model: nnU-Net's folder of a trained model.
        output: folder for the two files; its other files stay.
        format_name: one of `FORMATS`.
        fold: number of the fold, or "all".
        checkpoint: name of the checkpoint.
        overwrite: replace files of these names.

    Returns:
        The network's file, its description, and the largest difference of a logit.

    Raises:
        UserError: the model is not what it should be, a package is missing, the files exist, or
            the exported network computes something else.
    """
    if format_name not in FORMATS:
        raise UserError(f"`format={format_name}` is unknown; the formats are {', '.join(FORMATS)}")
    form = FORMATS[format_name]
    form.check_installed()
    network_name = f"fold_{fold}.{form.name}"
    names = (network_name, f"{network_name}.json")
    trained = load_trained_network(model, fold=fold, checkpoint=checkpoint)
    with added_files(output, names, overwrite=overwrite) as folder:
        difference = _write_network(trained, form, folder / network_name)
        described = _describe(trained, form, file=network_name, difference=difference)
        text = json.dumps(described, indent=2) + "\n"
        (folder / names[1]).write_text(text, encoding="utf-8")
    return output / names[0], output / names[1], difference


def _write_network(trained: TrainedNetwork, form: Format, path: Path) -> float:
    """Write the network and compare it; returns the largest difference of a logit."""
    patch = torch.randn(trained.patch_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = trained.network(patch)
    if not ours.isfinite().all():
        raise UserError(
            f"{trained.checkpoint}: the network's output on a random patch is not finite, so its "
            "weights are damaged, or its training diverged; export another checkpoint"
        )
    try:
        form.write(trained.network, patch, path)
        theirs = form.run(path, patch)
    except (UserError, OSError, MemoryError):
        raise
    except Exception as error:  # tracing and converting raise anything for networks of other kinds
        lines = str(error).strip().splitlines()
        raise UserError(
            f"{trained.checkpoint}: the network cannot be exported as {form.name} "
            f"({type(error).__name__}: {lines[0] if lines else 'no message'}); nothing is written. "
            "Try the other format, or another version of PyTorch"
        ) from error
    return _largest_difference(ours, theirs, form.name)


def _largest_difference(ours: Tensor, theirs: Tensor, name: str) -> float:
    if ours.shape != theirs.shape:
        raise UserError(
            f"the network exported as {name} has the output {tuple(theirs.shape)} instead of "
            f"{tuple(ours.shape)}; nothing is written. Try the other format"
        )
    difference = float((ours - theirs).abs().max())
    allowed = TOLERANCE * max(1.0, float(ours.abs().max()))
    if not difference <= allowed:  # NaN, too
        raise UserError(
            f"the network exported as {name} differs from ours on a random patch, by "
            f"{difference:.2g} where {allowed:.2g} is allowed; nothing is written. Try the other "
            "format, or another version of what runs it"
        )
    return difference


def _describe(
    trained: TrainedNetwork, form: Format, *, file: str, difference: float
) -> dict[str, object]:
    batch, channels, *patch_size = trained.patch_shape
    description = describe_network(trained)
    heads = len(description["outputs"]["channels"])
    return {
        "network": {
            "file": file,
            "format": form.name,
            "made_with": form.made_with(),
            "input": {
                "name": INPUT,
                "dtype": "float32",
                "shape": [batch, channels, *patch_size],
            },
            "output": {
                "name": OUTPUT,
                "dtype": "float32",
                "shape": [batch, heads, *patch_size],
            },
            "largest_difference": difference,
        },
        **description,
    }
