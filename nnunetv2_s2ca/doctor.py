"""Check whether training could start on this machine, and say what to do if not."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from nnunetv2_s2ca.core.nnunet import PREPROCESSED, RAW, RESULTS
from nnunetv2_s2ca.link import PTH_FILE, pth_target

PACKAGE = "nnunetv2-s2ca"
TRAINER = "nnUNetTrainerS2CA"
PATHS = {
    RAW: "the datasets, as `s2ca convert` writes them",
    PREPROCESSED: "the output of nnUNetv2_plan_and_preprocess",
    RESULTS: "the trained models",
}
# the 1251 cases of BraTS 2021 take 8 MB each converted and 14 MB preprocessed; the rest is for the
# folds' checkpoints and predictions
LOW_DISK_GB = 40
# a fold's two checkpoints of 0.26 GB (weights and two moments of Adam; S2CA-Net-L 0.43), and
# a third while it is written
LEAST_DISK_GB = 1
# a training step at 128³ on a CPU takes 3.9 GB for a batch of one (results/speed/cpu.md); nnU-Net's
# batch is two, and its workers, a dozen with a GPU, hold volumes as well
LOW_MEMORY_GB = 12


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        topic: What was examined.
        text: The finding.
        remedy: What to do, if something is wrong.
        fatal: Whether training could not start.
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
    """Examine packages, trainer, folders, device and memory, and try a small network.

    A check that itself fails is a fatal finding; the others continue.
    """
    yield Finding("python", f"{platform.python_version()} at {sys.executable}")
    try:
        yield from _packages()
    except Exception as error:
        yield _failed("packages", error)
    checks: dict[str, Callable[[], Finding]] = {
        TRAINER: _trainer,
        **{name: partial(_folder, name) for name in PATHS},
        "device": _device,
        "memory": _memory,
    }
    for topic, check in checks.items():
        try:
            yield check()
        except Exception as error:
            yield _failed(topic, error)
    try:
        yield from _trials()
    except ImportError:
        pass  # what is missing was a finding above
    except Exception as error:
        yield _failed("S2CA-Net on devices", error)


def _failed(topic: str, error: Exception) -> Finding:
    return Finding(
        topic,
        f"cannot be examined: {type(error).__name__}: {error}",
        "reinstall the package that the message names",
        fatal=True,
    )


def _packages() -> Iterator[Finding]:
    # imported here, since this package may be missing
    from packaging.requirements import Requirement

    try:
        yield Finding(PACKAGE, version(PACKAGE))
    except PackageNotFoundError:
        yield Finding(
            PACKAGE,
            "is not installed, so its requirements are unknown",
            "pip install . (in the folder with its setup.py)",
            fatal=True,
        )
        return
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
    find_objects = importlib.import_module("nnunetv2.utilities.find_objects")
    try:
        trainer = find_objects.recursive_find_trainer_class_by_name(TRAINER)
    except RuntimeError:
        return Finding(
            TRAINER,
            "nnU-Net does not find it",
            f"run `s2ca link`, which writes {pth_target()}; where Python does not read .pth files, "
            f"set nnUNet_extTrainer={PTH_FILE.with_name('training')}",
            fatal=True,
        )
    source = sys.modules[trainer.__module__].__file__ if trainer.__module__ in sys.modules else "?"
    return Finding(TRAINER, f"found by nnU-Net, from {source}")


def _folder(name: str) -> Finding:
    value = os.environ.get(name)
    if not value:
        return Finding(
            name,
            f"is not set; it is the folder for {PATHS[name]}",
            f"make a folder and set the environment variable {name} to it",
            fatal=True,
        )
    if value.startswith("~"):
        return Finding(
            name,
            f"{value} is not in your home folder, since nnU-Net does not expand the ~",
            f"set {name} to the full path, or leave out the quotes around the ~",
            fatal=True,
        )
    folder = Path(value)
    try:
        free = shutil.disk_usage(folder).free / 1e9
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (FileNotFoundError, NotADirectoryError):
        file = next((path for path in (folder, *folder.parents) if path.is_file()), None)
        if file is not None:
            return Finding(name, f"{file} is a file", f"set {name} to a folder", fatal=True)
        return Finding(name, f"{folder} does not exist", f"create the folder {folder}", fatal=True)
    except OSError as error:
        return Finding(
            name,
            f"{folder} cannot be written to: {error.strerror}",
            f"set {name} to a folder that you may write to",
            fatal=True,
        )
    remedies = []
    if free < LOW_DISK_GB:
        remedies.append(
            f"free space on this disk, or set {name} to a folder on another: a BraTS edition needs "
            f"up to {LOW_DISK_GB} GB in total"
        )
    if not folder.is_absolute():
        remedies.append(f"set {name} to {folder.absolute()}, which is valid in every directory")
    return Finding(
        name, f"{folder}, {free:.3g} GB free", "; ".join(remedies), fatal=free < LEAST_DISK_GB
    )


def _device() -> Finding:
    import torch

    if torch.cuda.is_available():
        gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        names = ", ".join(f"{gpu.name} ({gpu.total_memory / 1e9:.0f} GB)" for gpu in gpus)
        return Finding("device", f"cuda: {names}")
    if torch.backends.mps.is_available():
        return Finding("device", "mps; add `-device mps` to nnU-Net's commands")
    return Finding(
        "device",
        f"cpu, {os.cpu_count()} cores; no GPU that PyTorch can use",
        "add `-device cpu` to nnU-Net's commands; real training needs a GPU, and a PyTorch built "
        "for it (see pytorch.org)",
    )


def _trials() -> Iterator[Finding]:
    """Whether a small S2CA-Net runs on each device, and what fits each kind of card."""
    devices = importlib.import_module("nnunetv2_s2ca.devices")
    present = devices.present_devices()
    for device in present:
        trial = devices.try_device(device)
        topic = f"S2CA-Net on {device}"
        if trial.trains:
            yield Finding(topic, "a small network was trained for a step")
            continue
        # nnU-Net takes CUDA unless told otherwise, and the processor is what is always left
        fatal = device != "mps"
        what = "predicts, but does not train" if trial.predicts else "does not run"
        yield Finding(topic, f"{what}: {trial.problem}", trial.remedy, fatal=fatal)
    yield from _plans([device for device in present if device.startswith("cuda")])


def _plans(cards: list[str]) -> Iterator[Finding]:
    if not cards:
        return
    import torch

    from nnunetv2_s2ca.planning.fitting import advise

    properties = [torch.cuda.get_device_properties(card) for card in cards]
    for name, memory in dict.fromkeys((card.name, card.total_memory) for card in properties):
        advice = advise(memory / 1e9)
        yield Finding(f"plan for {name}", advice.text, advice.remedy)


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
