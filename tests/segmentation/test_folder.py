"""A folder of patients, the preview, and the command."""

from __future__ import annotations

import json
import shutil

import matplotlib
import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from nnunetv2_s2ca.cli import main
from nnunetv2_s2ca.imaging.scans import read_scan
from nnunetv2_s2ca.segmentation.patients import find_patients
from nnunetv2_s2ca.segmentation.preview import draw_planes
from tests.segmentation.images import labels, reoriented
from tests.segmentation.tiny_model import CHANNELS

ONE_WINDOW = ("-device", "cpu", "--disable_tta", "-f", "0")


def names(prefix, endings) -> list[str]:
    return [f"{prefix}{ending}" for ending in endings]


@pytest.mark.parametrize(
    "files",
    [
        names("BraTS19_X_1_", ("t1.nii.gz", "t1ce.nii.gz", "t2.nii.gz", "flair.nii", "seg.nii.gz")),
        names("BraTS-GLI-00001-000-", ("t1n.nii.gz", "t1c.nii.gz", "t2w.nii.gz", "t2f.nii.gz")),
        names("case_7_", ("0000.nii.gz", "0001.nii.gz", "0002.nii.gz", "0003.nii.gz")),
    ],
)
def test_patients_are_found_by_the_names_of_their_files(tmp_path, files):
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    for name in [*files, "readme.nii.gz", "notes.txt"]:
        (folder / name).touch()
    (patient,) = find_patients(tmp_path, CHANNELS)
    assert [patient.files[name].name for name in CHANNELS] == files[:4]
    assert not patient.problems
    assert patient.name in ("BraTS19_X_1", "BraTS-GLI-00001-000", "case_7")


def test_two_files_of_one_sequence_are_a_problem_of_their_patient(tmp_path):
    for name in ("a_t1.nii.gz", "a_t1.nii", "b_t1.nii"):
        (tmp_path / name).touch()
    first, second = find_patients(tmp_path, CHANNELS)
    assert "both its T1" in first.problems[0]
    assert not second.problems


def test_a_bad_patient_does_not_stop_the_others(tmp_path, patient, model, capsys):
    source, output = tmp_path / "in", tmp_path / "out"
    for name in ("A_1", "B_2", "C_3"):
        for file in patient.iterdir():
            (source / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, source / name / file.name.replace(patient.name, name))
    (source / "B_2" / "B_2_t2.nii.gz").write_bytes(b"nothing")
    command = ["segment", "-m", str(model), "-i", str(source), "-o", str(output), *ONE_WINDOW]
    extra = ["--report", str(tmp_path / "r.json"), "--preview", str(tmp_path / "pictures")]

    assert main([*command, *extra]) == 1

    assert sorted(path.name for path in output.iterdir()) == ["A_1.nii.gz", "C_3.nii.gz"]
    assert np.array_equal(labels(output / "A_1.nii.gz"), labels(output / "C_3.nii.gz"))
    report = json.loads((tmp_path / "r.json").read_text())
    assert list(report) == ["A_1", "B_2", "C_3"]
    assert "B_2_t2.nii.gz" in report["B_2"]["error"]
    assert report["A_1"]["volumes_ml"]["WT"] > 0
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 2
    shown = capsys.readouterr().out
    assert "[2/3] B_2" in shown
    assert "1 could not be segmented" in shown

    (source / "B_2" / "B_2_t2.nii.gz").unlink()
    shutil.copy(source / "A_1" / "A_1_t2.nii.gz", source / "B_2" / "B_2_t2.nii.gz")
    assert main([*command, "--continue_prediction"]) == 0
    shown = capsys.readouterr().out
    assert "[1/1] B_2" in shown
    assert "2 had a segmentation already" in shown


def test_continuing_is_for_folders_only(capsys):
    words = ["segment", "-m", "model", "--t1", "t1.nii.gz", "-o", "seg.nii.gz"]
    assert main([*words, "--continue_prediction"]) == 1
    assert "--continue_prediction is for a folder (-i)" in capsys.readouterr().err


def test_the_command_segments_one_patient(tmp_path, scans, model, straight, capsys):
    options = [word for name, path in scans.items() for word in (f"--{name}", str(path))]
    output = tmp_path / "seg.nii.gz"
    common = ["segment", "-m", str(model), *options, "-device", "cpu"]
    assert main([*common, "-o", str(output), "--preview", str(tmp_path / "seg.png")]) == 0
    assert np.array_equal(labels(output), labels(straight))
    assert "WT" in capsys.readouterr().out
    assert main([*common, "-o", str(output)]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert main(["segment", "-m", str(model), *options[2:], "-o", str(tmp_path / "x.nii")]) == 1
    assert "T1 is missing. Name the file (--t1)" in capsys.readouterr().err
    assert main(["segment", "-m", str(model), "-o", str(output)]) == 1
    assert "(-i)" in capsys.readouterr().err


def test_the_preview_shows_the_tumour_in_any_orientation(tmp_path, scans, straight):
    pictures = []
    for code in ("LPS", "ARI"):
        nib.save(reoriented(nib.load(scans["t1ce"]), code), tmp_path / "scan.nii.gz")
        nib.save(reoriented(nib.load(straight), code), tmp_path / "seg.nii.gz")
        scan = read_scan(tmp_path / "scan.nii.gz")
        (tmp_path / "p.png").write_bytes(
            draw_planes(scan, labels(tmp_path / "seg.nii.gz").T, title="patient")
        )
        pictures.append(np.asarray(Image.open(tmp_path / "p.png").convert("RGB")).astype(int))
    assert np.array_equal(*pictures)
    panels = pictures[0][60:-60]  # without the title and the legend
    blue = (panels[..., 2] - panels[..., 0] > 40).sum()
    assert blue > 50
    empty = draw_planes(scan, np.zeros_like(scan.voxels, np.uint8), title="patient")
    (tmp_path / "p.png").write_bytes(empty)
    panels = np.asarray(Image.open(tmp_path / "p.png").convert("RGB")).astype(int)[60:-60]
    assert not (panels[..., 2] - panels[..., 0] > 40).any()


def test_a_theme_set_elsewhere_leaves_the_preview_as_it_is(scans):
    scan = read_scan(scans["t1ce"])
    empty = np.zeros(scan.voxels.shape, np.uint8)
    expected = draw_planes(scan, empty, title="patient")
    with matplotlib.rc_context({"font.size": 30, "axes.grid": True}):
        assert draw_planes(scan, empty, title="patient") == expected
