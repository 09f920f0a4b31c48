"""Synthetic patients on disk are a BraTS 2019 folder."""

from __future__ import annotations

import csv

import nibabel as nib
import numpy as np
import pytest

from nnunetv2_s2ca.synthetic.brats import write_brats2019

SIZE = {"shape": (30, 34, 30), "spacing": 6.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("brats")
    write_brats2019(path, patients=4, **SIZE)
    return path


def test_layout_and_names(folder):
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    expected = {
        f"{grade}/{case}/{case}_{kind}.nii.gz"
        for grade, numbers in (("HGG", (1, 2, 3)), ("LGG", (4,)))
        for case in (f"BraTS19_SYN_{number:03d}_1" for number in numbers)
        for kind in ("t1", "t1ce", "t2", "flair", "seg")
    }
    assert files == expected | {"name_mapping.csv"}


def test_name_mapping_lists_grade_and_case(folder):
    with (folder / "name_mapping.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["Grade"], row["BraTS_2019_subject_ID"]) for row in rows] == [
        ("HGG", "BraTS19_SYN_001_1"),
        ("HGG", "BraTS19_SYN_002_1"),
        ("HGG", "BraTS19_SYN_003_1"),
        ("LGG", "BraTS19_SYN_004_1"),
    ]


def test_files_of_a_case_share_geometry_and_have_brats_dtypes(folder):
    images = [nib.load(path) for path in (folder / "HGG/BraTS19_SYN_001_1").iterdir()]
    assert len(images) == 5
    for image in images:
        np.testing.assert_array_equal(image.affine, images[0].affine)
        assert image.shape == SIZE["shape"]
        kind = np.uint8 if "_seg" in image.get_filename() else np.int16
        assert image.get_data_dtype() == kind


def test_same_seed_gives_same_bytes(folder, tmp_path):
    write_brats2019(tmp_path, patients=4, **SIZE)
    for path in folder.rglob("*"):
        if path.is_file():
            assert (tmp_path / path.relative_to(folder)).read_bytes() == path.read_bytes()


def test_a_patient_depends_on_its_number_alone_and_not_on_the_others(folder, tmp_path):
    (path,) = write_brats2019(tmp_path, patients=1, first=3, **SIZE)
    assert path.name == "BraTS19_SYN_003_1"
    for file in path.iterdir():
        assert file.read_bytes() == (folder / "HGG" / path.name / file.name).read_bytes()


def test_another_seed_gives_other_patients(folder, tmp_path):
    (path,) = write_brats2019(tmp_path, patients=1, seed=1, **SIZE)
    name = f"{path.name}_seg.nii.gz"
    assert (path / name).read_bytes() != (folder / "HGG" / path.name / name).read_bytes()
