"""Let nnU-Net find S2CA-Net's trainers and preprocessor by name, wherever nnU-Net is installed.

nnU-Net 2.8 finds a trainer or a preprocessor by importing the modules of its own folders, one after
the other, and asking each for an attribute of that name. `register` makes two of these modules
answer for our names: the modules stay as they are, and an attribute that they lack and that begins
with our prefix is fetched from this package. A `.pth` file, which Python reads at its start, calls
`register` in every process, so that nnU-Net's commands and their workers need nothing else.

The other ways, and why not:

- A module of ours below nnU-Net's `variants` folder: where nnU-Net is installed from a clone in
  editable mode, as its users often do, a folder `nnunetv2` in site-packages hides the clone, and
  nnU-Net is broken as a whole.
- `nnUNet_extTrainer`: an environment variable more for the user, and trainers only. It still serves
  where `.pth` files are not read (`python -S`, frozen programs): `training/` of this package is a
  valid value.

Nothing else of nnU-Net's is touched. Without the package the `.pth` file does nothing; if the
package is broken, only those who ask for its names see the error. Only the standard library is
imported here, since every start of Python pays for it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType

# nnU-Net's module → prefix of the names that it shall know besides its own, and where they are
EXTENSIONS = {
    "nnunetv2.training.nnUNetTrainer.nnUNetTrainer": (
        "nnUNetTrainerS2CA",
        "nnunetv2_s2ca.training",
    ),
    "nnunetv2.preprocessing.preprocessors.default_preprocessor": (
        "S2CAPreprocessor",
        "nnunetv2_s2ca.preprocessing",
    ),
}


def register() -> None:
    """Make nnU-Net's modules answer for our names, those already imported and those to come."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    for name in EXTENSIONS:
        if name in sys.modules:
            _extend(sys.modules[name])


class _Finder:
    """Finds the modules of `EXTENSIONS` as Python would, and has them extended once loaded."""

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
    """Give the module a `__getattr__` that fetches our names at the moment they are asked for."""
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
