"""Let nnU-Net find an editable install of this package: copy the `.pth` file to site-packages."""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

from nnunetv2_s2ca.core.errors import UserError

PTH_FILE = Path(__file__).with_name("nnunetv2-s2ca.pth")


def pth_target() -> Path:
    """Where Python reads the `.pth` file: in this environment's site-packages."""
    return Path(sysconfig.get_path("purelib")) / PTH_FILE.name


def link() -> Path:
    """Copy the `.pth` file; returns the copy.

    Raises:
        UserError: site-packages cannot be written to.
    """
    target = pth_target()
    try:
        shutil.copyfile(PTH_FILE, target)
    except OSError as error:
        raise UserError(
            f"cannot write {target} ({error.strerror}); install into a virtual environment of "
            f"your own, or set the environment variable nnUNet_extTrainer to "
            f"{PTH_FILE.with_name('training')}"
        ) from error
    return target


def unlink() -> Path:
    """Remove the copy of the `.pth` file, if any; returns its path.

    Raises:
        UserError: site-packages cannot be written to.
    """
    target = pth_target()
    try:
        target.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot remove {target} ({error.strerror}); run this as the user who wrote it"
        ) from error
    return target
