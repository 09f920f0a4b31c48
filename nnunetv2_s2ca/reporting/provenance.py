"""What was run: data set, trainer, plans, hardware and time, as far as nnU-Net's files say."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import read_json
from nnunetv2_s2ca.core.folds import fold_folders
from nnunetv2_s2ca.core.text import excerpt
from nnunetv2_s2ca.reporting.learning import Curve
from nnunetv2_s2ca.reporting.runs import Run

PACKAGES = ("nnunetv2-s2ca", "nnunetv2", "torch", "numpy")
# nnU-Net's debug.json of a fold → heading
DEBUG = {
    "device": "device",
    "gpu_name": "GPU",
    "torch_version": "PyTorch",
    "cudnn_version": "cuDNN",
    "num_epochs": "epochs planned",
    "num_iterations_per_epoch": "steps per epoch",
    "initial_lr": "initial learning rate",
}


def facts_about(run: Run, curves: Mapping[int, Curve]) -> dict[str, str]:
    """Heading → text, for one run; what is not known is left out."""
    facts = {"files": str(run.path)}
    if run.scores is not None:
        facts["scored by"] = f"rules {run.scores.rules}, NSD at {run.scores.tolerance:g} mm"
        if run.computed:
            facts["scored by"] += ", computed for this page"
    model = run.model
    parts = model.name.split("__") if model is not None else []
    if model is None or len(parts) != 3:
        return facts
    trainer, plans, configuration = parts
    facts |= {
        "data set": model.parent.name,
        "trainer": trainer,
        "plans": plans,
        "configuration": configuration,
    }
    facts |= _plan(model / "plans.json", configuration)
    folders = fold_folders(model)
    facts["folds"] = ", ".join(map(str, folders)) or "none"
    for folder in folders.values():
        facts |= _hardware(folder / "debug.json")
        if "PyTorch" in facts:
            break
    seconds = {fold: sum(curve.seconds.values()) for fold, curve in curves.items()}
    if seconds:
        epochs = [len(curve.train_loss) for curve in curves.values()]
        facts["epochs trained"] = ", ".join(map(str, epochs))
        facts["training time"] = ", ".join(
            f"fold {fold} {duration(value)}" for fold, value in seconds.items()
        )
    return facts


def versions() -> dict[str, str]:
    """The versions with which the page is made."""
    found = {"Python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def duration(seconds: float) -> str:
    """Such as `2 h 05 min`, `3 min 20 s` or `12 s`."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"


def _plan(path: Path, configuration: str) -> dict[str, str]:
    try:
        plan: Any = read_json(path).get("configurations", {}).get(configuration, {})
        return {
            "patch size": " × ".join(str(int(size)) for size in plan["patch_size"]),
            "batch size": str(int(plan["batch_size"])),
            "spacing": " × ".join(f"{float(size):g}" for size in plan["spacing"]) + " mm",
        }
    except (UserError, AttributeError, KeyError, TypeError, ValueError):
        return {}


def _hardware(path: Path) -> dict[str, str]:
    try:
        content = read_json(path)
    except UserError:
        return {}
    return {
        heading: excerpt(str(content[key]))
        for key, heading in DEBUG.items()
        if content.get(key) not in (None, "None")
    }
