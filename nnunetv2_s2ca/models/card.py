"""The model card: what a packed model is, and a checksum of each of its parts."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

from nnunetv2_s2ca.brats.regions import short_name
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import read_json
from nnunetv2_s2ca.core.nnunet import RAW, nnunet_folder
from nnunetv2_s2ca.dataset_conversion.record import read_record
from nnunetv2_s2ca.models.folder import ModelFolder, training_orientation
from nnunetv2_s2ca.reporting.markdown import markdown_table

FORMAT = 1
README = "MODEL_CARD.md"
PACKAGES = ("nnunetv2-s2ca", "nnunetv2", "torch")


def make_card(
    model: ModelFolder,
    *,
    trainer: str,
    configuration: str,
    edition: str | None = None,
    licence: str | None = None,
) -> dict[str, Any]:
    """The card of a model, without its parts.

    Args:
        model: The model.
        trainer: Name of its trainer.
        configuration: Name of its configuration.
        edition: The edition of BraTS that it was trained on; from the dataset's record if None.
        licence: Of the weights; from `dataset.json` if None.
    """
    orientation, source = training_orientation(model)
    described = model.dataset_json
    return {
        "format": FORMAT,
        "dataset": model.plans["dataset_name"],
        "trainer": trainer,
        "plans": model.plans["plans_name"],
        "configuration": configuration,
        "folds": list(model.folds),
        "edition": edition or model.card.get("edition") or _edition_of(model),
        "channels": described.get("channel_names", described.get("modality")),
        "labels": described["labels"],
        "orientation": orientation,
        "orientation_known_from": model.card.get("orientation_known_from", source),
        "training_cases": described.get("numTraining"),
        "validation_dice": _scores(model) or model.card.get("validation_dice", {}),
        "licence": licence or described.get("licence") or described.get("license") or None,
        "versions": model.card.get("versions")
        or {
            "python": platform.python_version(),
            **{package: version(package) for package in PACKAGES},
        },
    }


def card_text(card: dict[str, Any]) -> str:
    """The card to read, in Markdown."""
    channels = card.get("channels") or {}
    rows = {
        "Dataset": card.get("dataset"),
        "Edition of BraTS": card.get("edition"),
        "Trainer, plans, configuration": f"{card.get('trainer')}, {card.get('plans')}, "
        f"{card.get('configuration')}",
        "Folds": " ".join(map(str, card.get("folds", ()))),
        "Channels": ", ".join(map(str, channels.values())),
        "Orientation of the images": f"{card.get('orientation')} (from "
        f"{card.get('orientation_known_from')})",
        "Training cases": card.get("training_cases"),
        "Licence": card.get("licence"),
        "Versions": ", ".join(f"{k} {v}" for k, v in (card.get("versions") or {}).items()),
    }
    lines = [f"# {card.get('dataset')}: {card.get('trainer')}", ""]
    lines += ["Not for clinical use.", ""]
    shown = [
        [name, "not told" if value in (None, "") else str(value)] for name, value in rows.items()
    ]
    lines += [markdown_table(["", ""], shown), ""]
    scores = card.get("validation_dice") or {}
    if scores:
        names = sorted({name for fold in scores.values() for name in fold})
        scored = [
            [fold, *(f"{values[name]:.4f}" if name in values else "" for name in names)]
            for fold, values in scores.items()
        ]
        lines += ["Mean Dice of each fold on the cases that it was not trained on:", ""]
        lines += [markdown_table(["fold", *names], scored), ""]
    parts = card.get("parts") or {}
    if parts:
        listed = [[name, f"`{digest}`"] for name, digest in parts.items()]
        lines += [markdown_table(["part", "SHA-256"], listed), ""]
    return "\n".join(lines)


def _edition_of(model: ModelFolder) -> str | None:
    """The edition that the dataset was converted from, if it is on this machine."""
    try:
        return read_record(nnunet_folder(RAW) / model.plans["dataset_name"]).edition.name
    except UserError:
        return None


def _scores(model: ModelFolder) -> dict[str, dict[str, float]]:
    """Fold → region or label → mean Dice, from nnU-Net's validation."""
    found = {}
    labels = {_key(value): name for name, value in model.dataset_json["labels"].items()}
    for fold in model.folds:
        path = model.path / f"fold_{fold}" / "validation" / "summary.json"
        if not path.is_file():
            continue
        summary = read_json(path)
        means = {"mean": summary.get("foreground_mean"), **(summary.get("mean") or {})}
        scores = {
            short_name(labels.get(_key(name), name)): float(values["Dice"])
            for name, values in means.items()
            if isinstance(values, dict) and isinstance(values.get("Dice"), int | float)
        }
        if scores:
            found[fold] = scores
    return found


def _key(label: Any) -> str:
    """`1`, `(1, 2)` and `[1, 2]` without brackets, as nnU-Net spells labels in its summaries."""
    return "".join(char for char in str(label) if char.isdecimal() or char == ",").strip(
        ","
    ) or str(label)
