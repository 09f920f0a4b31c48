"""Parts of the report against independent computations."""

from __future__ import annotations

import math
import re

import nibabel as nib
import numpy as np
import pytest

from nnunetv2_s2ca import UserError
from nnunetv2_s2ca.brats.regions import scheme_of_regions
from nnunetv2_s2ca.reporting.calibration import bins_of_case
from nnunetv2_s2ca.reporting.case_files import CaseFiles, segmentations_of
from nnunetv2_s2ca.reporting.case_pictures import draw_case, outline
from nnunetv2_s2ca.reporting.learning import read_curve
from nnunetv2_s2ca.reporting.page import number
from nnunetv2_s2ca.reporting.provenance import duration
from nnunetv2_s2ca.reporting.svg import numeric_axis
from nnunetv2_s2ca.reporting.volumes import plane, read_image, read_segmentation
from tests.reporting.synthetic_runs import REGIONS, predicted, save, write_log

SCHEME = scheme_of_regions(REGIONS)


def _area(path: str) -> float:
    """The area within an SVG path of straight lines; holes count negative by their direction."""
    total = 0.0
    for part in path.split("M")[1:]:
        points = np.array(
            [[float(n) for n in re.findall(r"-?[\d.]+", p)] for p in part[:-1].split("L")]
        )
        x, y = points.T
        total += (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2
    return abs(total)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (5.0, 2.0)])
def test_an_outline_encloses_the_area_of_its_mask(spacing):
    mask = np.zeros((20, 30), bool)
    mask[0:12, 5:25] = True
    mask[4:8, 10:14] = False
    corners = 8 / 8 * math.prod(spacing)  # each of eight corners is cut by an eighth of a pixel
    assert _area(outline(mask, spacing)) == pytest.approx(
        mask.sum() * math.prod(spacing), abs=corners + 1
    )


def test_an_empty_mask_has_no_outline():
    assert outline(np.zeros((4, 4), bool), (1, 1)) == ""


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (1, -1, -1), (-1, -1, 1)])
def test_the_patients_right_is_at_the_left_and_the_front_on_top(tmp_path, flips):
    labels = np.zeros((6, 8, 10), np.uint8)
    affine = np.diag([*flips, 1]).astype(float)
    ras = [5, 7, 9]  # rightmost, foremost, topmost
    voxel = tuple(n if flip > 0 else 0 for n, flip in zip(ras, flips, strict=True))
    labels[voxel] = 1
    nib.save(nib.Nifti1Image(labels, affine), tmp_path / "a.nii.gz")
    volume = read_segmentation(tmp_path / "a.nii.gz").voxels
    assert plane(volume, "axial", 9)[0, 0] == 1  # front, right
    assert plane(volume, "coronal", 7)[0, 0] == 1  # top, right
    assert plane(volume, "sagittal", 5)[0, 0] == 1  # top, front


def test_an_image_on_another_grid_is_refused(tmp_path):
    save(np.ones((4, 4, 4), np.uint8), np.eye(4), tmp_path, "labels")
    save(np.ones((4, 4, 5), np.uint8), np.eye(4), tmp_path, "image")
    labels = read_segmentation(tmp_path / "labels.nii.gz")
    with pytest.raises(UserError, match=r"image.nii.gz has shape \(4, 4, 5\)"):
        read_image(tmp_path / "image.nii.gz", labels)


def test_a_case_with_nothing_in_it_is_drawn(tmp_path):
    save(np.zeros((9, 9, 9), np.uint8), np.eye(4), tmp_path, "labels")
    save(np.full((9, 9, 9), np.nan), np.eye(4), tmp_path, "image")
    path = tmp_path / "labels.nii.gz"
    files = CaseFiles("x", path, path, {"FLAIR": tmp_path / "image.nii.gz"})
    drawn = draw_case(files, scheme=SCHEME)
    assert [part.number for part in drawn.slices] == [5, 5, 5]
    assert not any(part.outlines for part in drawn.slices)


def test_calibration_equals_a_computation_voxel_by_voxel(tmp_path):
    truth = np.zeros((24, 20, 16), np.uint8)
    truth[8:16, 6:14, 5:11] = 1
    truth[10:14, 8:12, 6:10] = 2
    truth[11:13, 9:11, 7:9] = 3
    certain = predicted(truth, noise=0.5, seed=1)
    labels = np.zeros(truth.shape, np.uint8)
    for probability, label in zip(certain, (1, 2, 3), strict=True):
        labels[probability > 0.5] = label
    save(truth, np.eye(4), tmp_path, "truth")
    save(labels, np.eye(4), tmp_path, "x")
    np.savez(tmp_path / "x.npz", probabilities=certain.transpose(0, 3, 2, 1).astype(np.float32))
    files = CaseFiles("x", tmp_path / "x.nii.gz", tmp_path / "truth.nii.gz", {}, tmp_path / "x.npz")
    bins = bins_of_case(files, scheme=SCHEME)
    places = np.argwhere((truth != 0) | (labels != 0))
    low, high = np.maximum(places.min(0) - 10, 0), np.minimum(places.max(0) + 11, truth.shape)
    for number_of, (region, of) in enumerate(REGIONS.items()):
        gaps, total = np.zeros(10), 0
        for x in range(low[0], high[0]):
            for y in range(low[1], high[1]):
                for z in range(low[2], high[2]):
                    p = float(np.float32(certain[number_of, x, y, z]))
                    gaps[min(int(p * 10), 9)] += p - (truth[x, y, z] in of)
                    total += 1
        assert bins.count[number_of].sum() == total, region
        assert bins.error(number_of) == pytest.approx(np.abs(gaps).sum() / total, rel=1e-4)


def test_probabilities_of_another_prediction_are_refused(tmp_path):
    truth = np.zeros((12, 12, 12), np.uint8)
    truth[3:9, 3:9, 3:9] = 3
    save(truth, np.eye(4), tmp_path, "x")
    np.savez(tmp_path / "x.npz", probabilities=np.zeros((3, 12, 12, 12), np.float32))
    path = tmp_path / "x.nii.gz"
    with pytest.raises(UserError, match="does not fit"):
        bins_of_case(CaseFiles("x", path, path, {}, tmp_path / "x.npz"), scheme=SCHEME)


def test_a_resumed_training_is_read_from_both_logs(tmp_path):
    write_log(tmp_path, epochs=5, seed=0)
    first = next(tmp_path.glob("*.txt"))
    text = first.read_text()
    start = text.index(": Epoch 3") - 26
    later = text[start:].replace("train_loss", "train_loss 9.5 \n2026-03-02 00:00:00.0: other")
    (tmp_path / "training_log_2026_3_2_00_00_00.txt").write_text(later)
    curve = read_curve(tmp_path)
    assert sorted(curve.train_loss) == [0, 1, 2, 3, 4]
    assert curve.train_loss[3] == curve.train_loss[4] == 9.5
    assert curve.train_loss[2] != 9.5
    assert curve.seconds == dict.fromkeys(range(5), 61.05)


def test_numbers_of_every_version_of_numpy_are_read(tmp_path):
    lines = ["Epoch 0", "train_loss nan", "Pseudo dice [0.5, np.float32(0.7), nan]"]
    text = "".join(f"2026-01-01 10:00:00.000001: {line} \n" for line in lines)
    (tmp_path / "training_log_x.txt").write_text(text)
    curve = read_curve(tmp_path)
    assert curve.dice == {0: pytest.approx(0.6)}
    assert math.isnan(curve.train_loss[0])


@pytest.mark.parametrize(
    "values", [[], [3.0], [0, 0], [1e-9, 2e-9], [-5, 1e6], [math.inf, math.nan, 2]]
)
def test_an_axis_holds_its_values(values):
    axis = numeric_axis("x", values)
    finite = [value for value in values if math.isfinite(value)]
    assert all(axis.low <= value <= axis.high for value in finite)
    assert len(axis.ticks) >= 2
    assert len(set(axis.ticks.values())) == len(axis.ticks)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.12345, "0.1235"), (-0.5, "−0.5000"), (math.nan, "–"), (math.inf, "∞"), (1e-9, "< 0.0001")],
)
def test_numbers_are_written_as_in_a_paper(value, text):
    assert number(value, 4) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(12.4, "12 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_maps_beside_a_segmentation_are_no_cases(tmp_path):
    for name in ("a", "a_uncertainty", "a_probability_WT", "lone_entropy"):
        save(np.zeros((3, 3, 3), np.uint8), np.eye(4), tmp_path, name)
    assert list(segmentations_of(tmp_path, [], "Predictions")) == ["a", "lone_entropy"]
