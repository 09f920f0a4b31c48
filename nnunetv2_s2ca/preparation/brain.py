"""Where the brain is: from a mask of the user's, or by HD-BET."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.imaging.grids import same_grid
from nnunetv2_s2ca.imaging.scans import Scan, read_scan

HD_BET_ORIENTATION = "LAS"  # that of FSL's standard, as HD-BET asks for
WEIGHTS = "https://zenodo.org/records/14445620"
PLAUSIBLE_ML = (600, 2300)  # volumes of brains, from small children to large adults


def read_mask(path: Path, scan: Scan) -> sitk.Image:
    """A brain mask on a scan's grid, uint8: 1 where the file is above 0.

    Raises:
        UserError: The file cannot be read, holds one value only, or has another grid.
    """
    mask = read_scan(path).image
    if not same_grid(mask, scan.image):
        raise UserError(
            f"{path} lies on another grid than {scan.path}; expected a mask of that image, with "
            f"its shape {scan.image.GetSize()} and its affine"
        )
    brain = mask > 0
    if not sitk.GetArrayViewFromImage(brain).any():
        raise UserError(f"{path} has no voxel above 0; expected 1 in the brain, 0 elsewhere")
    return brain


def find_brain(scan: Scan, device: str) -> sitk.Image:
    """A brain mask on the scan's grid by HD-BET (Isensee et al., Human Brain Mapping 2019), uint8.

    Nothing is downloaded.

    Args:
        scan: Of any of the four sequences.
        device: PyTorch's name, such as "cuda" or "cpu".

    Raises:
        UserError: HD-BET or its weights are not installed.
    """
    import torch

    predictor = check_hd_bet().get_hdbet_predictor(
        use_tta=device != "cpu", device=torch.device(device)
    )
    turned = sitk.DICOMOrient(scan.image, HD_BET_ORIENTATION)
    labels = predictor.predict_single_npy_array(
        sitk.GetArrayFromImage(turned)[None], {"spacing": list(turned.GetSpacing()[::-1])}
    )
    brain = sitk.GetImageFromArray((labels > 0).astype(np.uint8))
    brain.CopyInformation(turned)
    if not (labels > 0).any():
        raise UserError(
            f"HD-BET finds no brain in {scan.path}; check the image, or name a mask (`mask`)"
        )
    return sitk.Resample(brain, scan.image, sitk.Transform(), sitk.sitkNearestNeighbor, 0)


def volume_warning(brain: sitk.Image) -> str | None:
    """What to say of a mask that is too small or too large for a brain, if it is."""
    millilitres = sitk.GetArrayViewFromImage(brain).sum() * np.prod(brain.GetSpacing()) / 1000
    low, high = PLAUSIBLE_ML
    if low <= millilitres <= high:
        return None
    return f"the brain mask has {millilitres:.0f} ml; expected {low} to {high} ml. Check the mask"


def check_hd_bet() -> Any:
    """HD-BET's module for predictions.

    Raises:
        UserError: It is not installed, or its weights are missing.
    """
    shown = sys.stdout  # HD-BET replaces it while it is imported
    try:
        from HD_BET import hd_bet_prediction, paths
    except ImportError as error:
        raise UserError(
            "skull stripping needs HD-BET, which is not installed; install it with `pip install "
            '"nnunetv2-s2ca[hd-bet]"`, name a brain mask (`mask`), or, if the images are '
            "stripped already, say so with `no_skull_stripping=True`"
        ) from error
    finally:
        sys.stdout = shown
    folder = Path(paths.folder_with_parameter_files)
    if not (weights := folder / "fold_all" / "checkpoint_final.pth").is_file():
        raise UserError(
            f"HD-BET's weights are missing; expected {weights}. Nothing is downloaded unasked: "
            f"unpack the archive of {WEIGHTS} into {folder}, or run HD-BET's own `hd-bet` once, "
            "which downloads them"
        )
    return hd_bet_prediction
