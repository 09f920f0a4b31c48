"""Let nnU-Net find S2CA-Net's trainers, preprocessor and planner, wherever it is installed.

nnU-Net 2.8 finds a trainer, a preprocessor or a planner by importing the modules in its own folders
and looking for an attribute of that name. `register` gives three of these modules a `__getattr__`
that fetches attributes with our prefix from this package; the modules themselves are unchanged. A
`.pth` file, which Python reads at startup, calls `register` in every process, including nnU-Net's
workers.

Why not otherwise:

- A module of ours in nnU-Net's `variants` folder: if nnU-Net is installed from a clone in editable
  mode, a folder `nnunetv2` in site-packages hides the clone and breaks nnU-Net.
- `nnUNet_extTrainer`: users would have to set it, and it works for trainers only. It still helps
  where `.pth` files are not read (`python -S`, frozen programs): set it to this package's
  `training/`.

Without the package the `.pth` file does nothing; if the package is broken, only a look-up of its
names fails. This module imports the standard library only, since every start of Python runs it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType

# nnU-Net's module → prefix of our names, and the module that has them
EXTENSIONS = {
    "nnunetv2.training.nnUNetTrainer.nnUNetTrainer": (
        "nnUNetTrainerS2CA",
        "nnunetv2_s2ca.training",
    ),
    "nnunetv2.preprocessing.preprocessors.default_preprocessor": (
        "S2CAPreprocessor",
        "nnunetv2_s2ca.preprocessing",
    ),
    "nnunetv2.experiment_planning.experiment_planners.default_experiment_planner": (
        "S2CAPlanner",
        "nnunetv2_s2ca.planning",
    ),
}


def register() -> None:
    """Make our names available in nnU-Net's modules, imported already or later."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    for name in EXTENSIONS:
        if name in sys.modules:
            _extend(sys.modules[name])


class _Finder:
    """Finds the modules of `EXTENSIONS` as Python would, and extends them once loaded."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in EXTENSIONS:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        _extend(module)


def _extend(module: ModuleType) -> None:
    """Give the module a `__getattr__` that fetches our names when they are needed."""
    prefix, home = EXTENSIONS[module.__name__]
    former = module.__dict__.get("__getattr__")
    if getattr(former, "home", None) == home:
        return

    def fetch(name: str) -> object:
        if name.startswith(prefix):
            return getattr(importlib.import_module(home), name)
        if former is not None:
            return former(name)
        raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

    fetch.home = home  # type: ignore[attr-defined]
    module.__getattr__ = fetch  # type: ignore[method-assign]
