"""DICOM series, written by SimpleITK."""

from __future__ import annotations

import locale
from pathlib import Path

import numpy as np
import SimpleITK as sitk


def write_series(
    image: sitk.Image,
    folder: Path,
    *,
    uid: str = "1.2.826.0.1.3680043.2.1125.1",
    description: str = "t1_mprage",
    number: int = 1,
    leave_out: tuple[int, ...] = (),
) -> None:
    """Write a 3D image of whole numbers as one DICOM file a slice.

    Args:
        image: Its voxels are stored as int16.
        folder: Created if missing.
        uid: Of the series.
        description: The scanner's, of the series.
        number: The scanner's, of the series.
        leave_out: Indices of slices that are not written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    image = sitk.Cast(image, sitk.sitkInt16)
    directions = np.reshape(image.GetDirection(), (3, 3))
    before = locale.setlocale(locale.LC_CTYPE)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for index in range(image.GetDepth()):
        if index in leave_out:
            continue
        piece = image[:, :, index]
        position = image.TransformIndexToPhysicalPoint((0, 0, index))
        tags = {
            "0008|0060": "MR",
            "0008|0016": "1.2.840.10008.5.1.4.1.1.4",
            "0008|0018": f"{uid}.{index + 1}",
            "0008|103e": description,
            "0010|0010": "Secret^Name",
            "0010|0020": "4711",
            "0020|000d": "1.2.826.0.1.3680043.2.1125.9",
            "0020|000e": uid,
            "0020|0011": str(number),
            "0020|0013": str(index),
            "0020|0032": "\\".join(f"{value:.10g}" for value in position),
            "0020|0037": "\\".join(f"{value:.10g}" for value in directions.T[:2].ravel()),
            "0018|0050": f"{image.GetSpacing()[2]:.10g}",
        }
        for key, value in tags.items():
            piece.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{number}_{index:03d}.dcm"))
        writer.Execute(piece)
    # GDCM leaves C when it writes, and later tests would read subprocesses' output as ASCII
    locale.setlocale(locale.LC_CTYPE, before)
