"""S2CA-Net for nnU-Net v2: one function for each thing that a command does.

Everything is imported at its first use, since PyTorch alone takes seconds.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnunetv2_s2ca.api.checkpoints import describe_checkpoints, import_checkpoints
    from nnunetv2_s2ca.api.container import write_container
    from nnunetv2_s2ca.api.conversion import check, convert, export, write_splits
    from nnunetv2_s2ca.api.demo import run_demo
    from nnunetv2_s2ca.api.evaluation import compare, evaluate
    from nnunetv2_s2ca.api.installation import (
        describe_trainers,
        examine_installation,
        link_trainers,
        unlink_trainers,
    )
    from nnunetv2_s2ca.api.jobs import cross_validate, predict
    from nnunetv2_s2ca.api.models import describe_model, install_model, pack_model
    from nnunetv2_s2ca.api.network_export import export_network
    from nnunetv2_s2ca.api.postprocessing import fit_postprocessing, postprocess
    from nnunetv2_s2ca.api.preparation import prepare, to_native
    from nnunetv2_s2ca.api.report import report
    from nnunetv2_s2ca.api.segmentation import segment, segment_folder
    from nnunetv2_s2ca.api.view import serve_viewer, view
    from nnunetv2_s2ca.architecture.s2ca_net import S2CANet
    from nnunetv2_s2ca.core.errors import UserError
    from nnunetv2_s2ca.demo.settings import DemoSettings
    from nnunetv2_s2ca.jobs.backends import LocalBackend, SlurmBackend

    __version__: str

_HOMES = {
    "api.checkpoints": ("describe_checkpoints", "import_checkpoints"),
    "api.container": ("write_container",),
    "api.conversion": ("check", "convert", "export", "write_splits"),
    "api.demo": ("run_demo",),
    "api.evaluation": ("compare", "evaluate"),
    "api.installation": (
        "describe_trainers",
        "examine_installation",
        "link_trainers",
        "unlink_trainers",
    ),
    "api.jobs": ("cross_validate", "predict"),
    "api.models": ("describe_model", "install_model", "pack_model"),
    "api.network_export": ("export_network",),
    "api.postprocessing": ("fit_postprocessing", "postprocess"),
    "api.preparation": ("prepare", "to_native"),
    "api.report": ("report",),
    "api.segmentation": ("segment", "segment_folder"),
    "api.view": ("serve_viewer", "view"),
    "architecture.s2ca_net": ("S2CANet",),
    "core.errors": ("UserError",),
    "demo.settings": ("DemoSettings",),
    "jobs.backends": ("LocalBackend", "SlurmBackend"),
}

__all__ = [
    "DemoSettings",
    "LocalBackend",
    "S2CANet",
    "SlurmBackend",
    "UserError",
    "__version__",
    "check",
    "compare",
    "convert",
    "cross_validate",
    "describe_checkpoints",
    "describe_model",
    "describe_trainers",
    "evaluate",
    "examine_installation",
    "export",
    "export_network",
    "fit_postprocessing",
    "import_checkpoints",
    "install_model",
    "link_trainers",
    "pack_model",
    "postprocess",
    "predict",
    "prepare",
    "report",
    "run_demo",
    "segment",
    "segment_folder",
    "serve_viewer",
    "to_native",
    "unlink_trainers",
    "view",
    "write_container",
    "write_splits",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("nnunetv2-s2ca")
    home = next((home for home, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return __all__
