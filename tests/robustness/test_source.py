"""Downloads with something odd: named by `check` and `convert`, which lose and hide nothing."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass

import pytest

from nnunetv2_s2ca import cli
from nnunetv2_s2ca.brats.editions import EDITIONS
from nnunetv2_s2ca.dataset_conversion.source import find_cases
from tests.dataset_conversion.synthetic_cases import write_case, write_download

EDITION = EDITIONS["brats2020"]
CASE, OTHER = "BraTS20_Training_001", "BraTS20_Training_002"


@dataclass(frozen=True)
class Row:
    """What is done to the first of two cases, and what the report says of it."""

    name: str
    spoil: object
    message: str


def _case_as_file(folder):
    shutil.rmtree(folder)
    folder.touch()


def _empty_folder(folder):
    for path in folder.iterdir():
        path.unlink()


def _add_case_named(folder, name):
    plain = "BraTS20_Training_003"
    write_case(folder.parent / plain, EDITION, plain)
    for path in (folder.parent / plain).iterdir():
        path.rename(path.with_name(path.name.replace(plain, name)))
    (folder.parent / plain).rename(folder.parent / name)


def _pipe(folder):
    path = folder / f"{CASE}_t2.nii.gz"
    path.unlink()
    os.mkfifo(path)


def _broken_link(folder):
    path = folder / f"{CASE}_t2.nii.gz"
    path.unlink()
    path.symlink_to("nowhere.nii.gz")


PROBLEMS = [
    Row(
        "a case folder replaced by a file",
        _case_as_file,
        rf"{CASE}: every file is missing; expected the files in .*{CASE}, which is a file",
    ),
    Row(
        "an empty case folder, as of an interrupted unzip",
        _empty_folder,
        rf"{CASE}: every file is missing; expected the files in .*{CASE}, which holds none",
    ),
    Row("a pipe", _pipe, rf"{CASE}: .*_t2\.nii\.gz: is a pipe or device; expected a file"),
    Row("a broken link", _broken_link, rf"{CASE}: .*_t2\.nii\.gz: is a broken link"),
    Row(
        "a case name with a newline",
        lambda folder: _add_case_named(folder, "BraTS20_Training_0ä\n3"),
        r"BraTS20_Training_0ä\\n3: its name has characters that cannot be printed",
    ),
    Row(
        "a case name that is no UTF-8",
        lambda folder: _add_case_named(folder, os.fsdecode(b"BraTS20_Training_\xff3")),
        r"BraTS20_Training_\\udcff3: its name has characters .* not UTF-8",
    ),
]

REMARKS = [
    Row(
        "a training case that lost its segmentation",
        lambda folder: (folder / f"{CASE}_seg.nii.gz").unlink(),
        rf"{CASE}: has no segmentation, unlike 1 cases beside it; it becomes a case to predict",
    ),
    Row(
        "two stray segmentations",
        lambda folder: [
            shutil.move(folder / f"{CASE}_seg.nii.gz", folder / "W39_Segm.nii.gz"),
            shutil.copy(folder / "W39_Segm.nii.gz", folder / "W40_Segm.nii.gz"),
        ],
        rf"{CASE}: W39_Segm.nii.gz and W40_Segm.nii.gz are not named after the case and "
        "are ignored",
    ),
    Row(
        "a link to a folder above it",
        lambda folder: (folder / "loop").symlink_to(folder.parent.parent),
        "1 links to a parent folder ignored",
    ),
    Row(
        "two links that lead to each other's folders",
        lambda folder: [
            (folder / "loop").symlink_to(folder.parent / OTHER),
            (folder.parent / OTHER / "loop").symlink_to(folder),
        ],
        "appears in 2 folders",
    ),
]


@pytest.fixture
def source(tmp_path, nnunet_folders):
    write_download(tmp_path / "source", EDITION, count=2)
    return tmp_path / "source"


def _ids(rows):
    return [row.name for row in rows]


@pytest.mark.parametrize("row", PROBLEMS, ids=_ids(PROBLEMS))
def test_problem_is_named_by_check_and_convert(row, source, nnunet_folders, capsys):
    row.spoil(source / CASE)
    assert cli.main(["check", EDITION.name, str(source), "-np", "1"]) == 1
    assert _search(row.message, capsys.readouterr().out)
    assert cli.main(["convert", EDITION.name, str(source), "-np", "1"]) == 1
    assert _search(row.message, capsys.readouterr().err)
    assert not list((nnunet_folders / "nnUNet_raw").iterdir())


@pytest.mark.parametrize("row", PROBLEMS, ids=_ids(PROBLEMS))
def test_case_with_a_problem_can_be_skipped(row, source, nnunet_folders):
    row.spoil(source / CASE)
    arguments = ["convert", EDITION.name, str(source), "-np", "1", "--skip-invalid"]
    assert cli.main(arguments) == 0
    (dataset,) = (nnunet_folders / "nnUNet_raw").iterdir()
    assert _search(row.message, (dataset / "s2ca_skipped.txt").read_text(encoding="utf-8"))
    assert (dataset / "labelsTr" / f"{OTHER}.nii.gz").exists()


@pytest.mark.parametrize("row", REMARKS[:3], ids=_ids(REMARKS[:3]))
def test_oddity_is_named_and_the_conversion_goes_on(row, source, nnunet_folders, capsys):
    row.spoil(source / CASE)
    assert cli.main(["convert", EDITION.name, str(source), "-np", "1"]) == 0
    assert _search(row.message, capsys.readouterr().out)


def test_links_in_a_circle_end(source):
    REMARKS[3].spoil(source / CASE)
    cases = find_cases(EDITION, source)
    assert all("appears in 2 folders" in case.problems[0] for case in cases)


def test_validation_set_alone_has_no_lost_segmentations(tmp_path):
    for name in ("BraTS20_Validation_001", "BraTS20_Validation_002"):
        write_case(tmp_path / name, EDITION, name, segmented=False)
    assert not any(case.remarks for case in find_cases(EDITION, tmp_path))


def test_name_mapping_that_is_a_pipe_is_not_waited_for(source, capsys):
    os.mkfifo(source / "name_mapping.csv")
    assert cli.main(["check", EDITION.name, str(source)]) == 1
    assert "name_mapping.csv is a pipe or device" in capsys.readouterr().err


def _search(pattern: str, text: str) -> bool:
    return re.search(pattern, text) is not None
