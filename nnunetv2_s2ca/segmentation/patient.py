"""One patient from files to files."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from nnunetv2_s2ca.brats.editions import Edition
from nnunetv2_s2ca.core.lock import output_lock
from nnunetv2_s2ca.imaging.scans import header_of, nifti_bytes
from nnunetv2_s2ca.postprocessing.rules import PostprocessingRules
from nnunetv2_s2ca.preparation.native import odd_about_prepared, to_native
from nnunetv2_s2ca.segmentation.edition import in_edition
from nnunetv2_s2ca.segmentation.inputs import NetworkInput, read_input
from nnunetv2_s2ca.segmentation.model import LoadedModel
from nnunetv2_s2ca.segmentation.outputs import Outputs, write_together
from nnunetv2_s2ca.segmentation.preview import draw_planes
from nnunetv2_s2ca.segmentation.report import labels_ml, measure, origin, voxel_ml
from nnunetv2_s2ca.segmentation.run import map_names, predict

NATIVE = "native"  # seg_native.nii.gz


@dataclass(frozen=True)
class SegmentOptions:
    """What to make of a patient.

    Attributes:
        space: The sequence whose grid the result gets; the T1ce's if None.
        edition: Its labels are written; the model's own if None.
        rules: Post-processing to apply.
        probabilities: Write the probability of each region.
        uncertainty: Write entropy and disagreement.
        overwrite: Replace files.
        native: The transforms of `prepare`; write the labels on the scanner's grid, too.
    """

    space: str | None = None
    edition: Edition | None = None
    rules: PostprocessingRules | None = None
    probabilities: bool = False
    uncertainty: bool = False
    overwrite: bool = False
    native: Path | None = None


@dataclass(frozen=True)
class Segmented:
    """One patient's result.

    Attributes:
        path: The segmentation.
        volumes_ml: Region → volume in ml.
        lesions: Region → number of lesions.
        warnings: What looks wrong.
        report: Content of the report.
    """

    path: Path
    volumes_ml: dict[str, float]
    lesions: dict[str, int]
    warnings: tuple[str, ...]
    report: dict[str, Any] = field(repr=False)

    def __str__(self) -> str:
        parts = [
            f"{name} {volume:.1f} ml in {self.lesions[name]}"
            for name, volume in self.volumes_ml.items()
        ]
        return f"{self.path}: {', '.join(parts)} (volume in number of lesions)"


def segment_patient(
    files: Mapping[str, Path],
    outputs: Outputs,
    model: LoadedModel,
    options: SegmentOptions,
    *,
    say: Callable[[str], None] = print,
) -> Segmented:
    """Segment one patient and write the result; nothing is written unless all of it can be.

    Args:
        files: Sequence → file or DICOM folder.
        outputs: Names of the results.
        model: The model.
        options: What to make.
        say: Receives each warning, those about the scans before the network runs.

    Raises:
        UserError: Something is wrong with the scans or the outputs.
    """
    maps = {"probabilities": options.probabilities, "uncertainty": options.uncertainty}
    inputs, further = list(files.values()), map_names(model, **maps)
    if options.native is not None:
        inputs.append(options.native)
        further.append(NATIVE)
    outputs.check(inputs, further, overwrite=options.overwrite)
    with output_lock(outputs.segmentation):
        start = time.monotonic()
        given = read_input(files, model, space=options.space)
        warnings = list(given.warnings)
        if options.native is not None:
            warnings += odd_about_prepared(given.scan, options.native, given.space)
        for warning in warnings:
            say(f"warning: {warning}")
        read = time.monotonic() - start
        prediction = predict(given, model, rules=options.rules, **maps)
        if not prediction.labels.any():
            warnings.append(f"{outputs.segmentation}: no tumour was found")
            say(f"warning: {warnings[-1]}")
        labels = prediction.labels
        if options.edition is not None:
            labels = in_edition(labels, options.edition)
        milliliters = voxel_ml(given.scan.image)
        report = {
            "segmentation": str(outputs.segmentation),
            "scans": {name: str(path) for name, path in files.items()},
            "edition": options.edition.name if options.edition else None,
            **measure(prediction, model, milliliters),
            "labels_ml": labels_ml(labels, milliliters),
            "native": None,
            "postprocessing": asdict(options.rules) if options.rules else None,
            "uncertainty": prediction.uncertainty,
            "warnings": warnings,
            "seconds": {"reading": round(read, 3), "prediction": round(prediction.seconds, 3)},
            **origin(given, model),
        }
        header = given.scan.header
        contents = {outputs.segmentation: nifti_bytes(_smallest(labels), header)}
        for name, voxels in prediction.maps.items():
            contents[outputs.map_named(name)] = nifti_bytes(voxels.astype(np.float32), header)
        if options.native is not None:
            path = outputs.map_named(NATIVE)
            contents[path], report["native"] = _native(labels, given, options.native, path)
        if outputs.report is not None:
            contents[outputs.report] = f"{json.dumps(report, indent=2)}\n".encode()
        if outputs.preview is not None:
            title = f"{outputs.segmentation.name}, {given.space}"
            contents[outputs.preview] = draw_planes(given.scan, prediction.labels, title=title)
        write_together(contents)
    return Segmented(
        outputs.segmentation, report["volumes_ml"], report["lesions"], tuple(warnings), report
    )


def _native(
    labels: np.ndarray, given: NetworkInput, transforms: Path, path: Path
) -> tuple[bytes, dict[str, Any]]:
    """The labels on the scanner's grid: a file's content, and what the report says of it."""
    image = sitk.GetImageFromArray(_smallest(labels))
    image.CopyInformation(given.scan.image)
    native = to_native(image, transforms, sequence=given.space)
    voxels = sitk.GetArrayFromImage(native)
    return nifti_bytes(voxels, header_of(native)), {
        "segmentation": str(path),
        "transforms": str(transforms),
        "labels_ml": labels_ml(voxels, voxel_ml(native)),
    }


def _smallest(labels: np.ndarray) -> np.ndarray:
    return labels.astype(np.uint8 if labels.max(initial=0) < 256 else np.uint16)
