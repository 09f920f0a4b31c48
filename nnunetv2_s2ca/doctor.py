"""`s2ca doctor`: could training start on this machine, and if not, what is to be done?"""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from nnunetv2_s2ca.link import PTH_FILE, pth_target

PACKAGE = "nnunetv2-s2ca"
TRAINER = "nnUNetTrainerS2CA"
PATHS = {
    "nnUNet_raw": "the datasets, as `s2ca convert` writes them",
    "nnUNet_preprocessed": "what nnUNetv2_plan_and_preprocess makes of them",
    "nnUNet_results": "the trained models",
}
# rough needs: one BraTS edition converted, preprocessed and trained; nnU-Net's workers and one step
LOW_DISK_GB = 40
LOW_MEMORY_GB = 12


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    `remedy` says what to do where something is wrong; `fatal` that training could not start.
    """

    topic: str
    text: str
    remedy: str = ""
    fatal: bool = False

    def __str__(self) -> str:
        mark = "FAIL" if self.fatal else "warn" if self.remedy else "ok"
        line = f"{mark:4}  {self.topic:20} {self.text}"
        return f"{line}\n      {'':20} → {self.remedy}" if self.remedy else line


def examine() -> Iterator[Finding]:
    """Look at packages, trainer, folders, device and memory, one finding after the other."""
    yield Finding("python", f"{platform.python_version()} at {sys.executable}")
    yield from _packages()
    yield _trainer()
    for name, purpose in PATHS.items():
        yield _folder(name, purpose)
    yield _device()
    yield _memory()


def _packages() -> Iterator[Finding]:
    yield Finding(PACKAGE, version(PACKAGE))
    for line in requires(PACKAGE) or []:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        install = f'pip install "{requirement.name}{requirement.specifier}"'
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            yield Finding(requirement.name, "is not installed", install, fatal=True)
            continue
        fits = requirement.specifier.contains(installed, prereleases=True)
        yield Finding(
            requirement.name,
            installed if fits else f"{installed}, but {requirement.specifier} is needed",
            "" if fits else install,
            fatal=not fits,
        )


def _trainer() -> Finding:
    try:
        find_objects = importlib.import_module("nnunetv2.utilities.find_objects")
        trainer = find_objects.recursive_find_trainer_class_by_name(TRAINER)
    except RuntimeError:
        return Finding(
            TRAINER,
            "nnU-Net does not find it",
            f"run `s2ca link`, which writes {pth_target()}; where Python does not read .pth files, "
            f"set nnUNet_extTrainer={PTH_FILE.with_name('training')}",
            fatal=True,
        )
    except Exception as error:
        return Finding(
            TRAINER,
            f"nnU-Net fails when it looks for it: {type(error).__name__}: {error}",
            "reinstall the package that the message names",
            fatal=True,
        )
    source = sys.modules[trainer.__module__].__file__ if trainer.__module__ in sys.modules else "?"
    return Finding(TRAINER, f"found by nnU-Net, from {source}")


def _folder(name: str, purpose: str) -> Finding:
    value = os.environ.get(name)
    if not value:
        return Finding(
            name,
            f"is not set; it is the folder for {purpose}",
            f"make a folder and set the environment variable {name} to it",
            fatal=True,
        )
    folder = Path(value)
    if not folder.is_dir():
        return Finding(name, f"{folder} is no folder", f'mkdir -p "{folder}"', fatal=True)
    if not os.access(folder, os.W_OK):
        return Finding(name, f"{folder} cannot be written to", "choose another folder", fatal=True)
    free = shutil.disk_usage(folder).free / 1e9
    return Finding(
        name,
        f"{folder}, {free:.0f} GB free",
        "" if free >= LOW_DISK_GB else f"a BraTS edition needs up to {LOW_DISK_GB} GB in all",
    )


def _device() -> Finding:
    import torch

    if torch.cuda.is_available():
        gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        names = ", ".join(f"{gpu.name} ({gpu.total_memory / 1e9:.0f} GB)" for gpu in gpus)
        return Finding("device", f"cuda: {names}")
    if torch.backends.mps.is_available():
        return Finding("device", "mps; give nnU-Net's commands `-device mps`")
    return Finding(
        "device",
        f"cpu, {os.cpu_count()} cores; no GPU that PyTorch can use",
        "give nnU-Net's commands `-device cpu`; real training needs a GPU, and a PyTorch built for "
        "it (see pytorch.org)",
    )


def _memory() -> Finding:
    import psutil

    memory = psutil.virtual_memory()
    return Finding(
        "memory",
        f"{memory.available / 1e9:.0f} of {memory.total / 1e9:.0f} GB free",
        ""
        if memory.available / 1e9 >= LOW_MEMORY_GB
        else "close other programs, or start fewer of nnU-Net's workers (nnUNet_n_proc_DA=2)",
    )
