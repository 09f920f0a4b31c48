"""`s2ca export --edition E --like IMAGES`: export where nnUNet_raw holds no dataset."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import nnunetv2_s2ca
from nnunetv2_s2ca import cli
from nnunetv2_s2ca.brats.editions import EDITIONS
from tests.dataset_conversion.synthetic_cases import (
    AFFINE,
    SHAPE,
    identifiers,
    save,
    write_download,
)


def _write_images(folder: Path, edition, names: str) -> None:
    if names == "BraTS":
        write_download(folder, edition)
        return
    for case in identifiers(edition, 3):
        for channel in range(len(edition.channels)):
            save(folder / f"{case}_{channel:04d}.nii.gz", np.full(SHAPE, channel, np.int16))


@pytest.fixture
def edition():
    return EDITIONS["brats2021"]


@pytest.fixture
def predictions(tmp_path, edition):
    """In nnU-Net's labels, of the cases of `_write_images`."""
    return _write_predictions(tmp_path / "predictions", edition)


def _write_predictions(folder: Path, edition) -> Path:
    rng = np.random.default_rng(1)
    for case in identifiers(edition, 3):
        save(folder / f"{case}.nii.gz", rng.choice(list(edition.source_labels), SHAPE).astype("u1"))
    return folder


def _export(capsys, *options: object) -> tuple[int, str]:
    code = cli.main(["export", "-np", "1", *map(str, options)])
    printed = capsys.readouterr()
    return code, printed.out + printed.err


@pytest.mark.parametrize("names", ["nnU-Net", "BraTS"])
@pytest.mark.parametrize("name", EDITIONS)
def test_labels_and_names_are_those_of_the_edition(name, names, tmp_path):
    edition = EDITIONS[name]
    _write_images(tmp_path / "images", edition, names)
    predictions = _write_predictions(tmp_path / "predictions", edition)
    output = tmp_path / "out"
    report = nnunetv2_s2ca.export(
        None, predictions, output, edition=name, like=tmp_path / "images", processes=1
    )
    assert [path.name for path in report.files] == sorted(path.name for path in output.iterdir())
    to_ours = np.vectorize(edition.labels.get)
    for path in predictions.iterdir():
        written = nib.load(output / path.name)
        assert written.get_data_dtype() == np.uint8
        np.testing.assert_array_equal(to_ours(written.dataobj), nib.load(path).dataobj)
        np.testing.assert_array_equal(written.affine, AFFINE)


def test_geometry_is_that_of_the_images_bit_for_bit(edition, predictions, tmp_path, capsys):
    _write_images(tmp_path / "images", edition, "nnU-Net")
    rounded = AFFINE @ np.diag([1 + 1e-6] * 3 + [1])
    for path in predictions.iterdir():
        save(path, np.asarray(nib.load(path).dataobj), rounded)
    code, _ = _export(
        *(capsys, "--edition", "brats2021", "--like", tmp_path / "images"),
        *("-i", predictions, "-o", tmp_path / "out"),
    )
    assert code == 0
    for path in (tmp_path / "out").iterdir():
        np.testing.assert_array_equal(nib.load(path).affine, AFFINE)


def test_missing_predictions_are_named(edition, predictions, tmp_path, capsys):
    _write_images(tmp_path / "images", edition, "nnU-Net")
    case = identifiers(edition, 3)[0]
    (predictions / f"{case}.nii.gz").unlink()
    code, text = _export(
        *(capsys, "--edition", "brats2021", "--like", tmp_path / "images"),
        *("-i", predictions, "-o", tmp_path / "out"),
    )
    assert code == 0
    assert f"1 of 3 cases of {tmp_path / 'images'} have no prediction: {case}" in text


def _twice(folder: Path) -> None:
    path = sorted(folder.iterdir())[0]
    nib.save(nib.load(path), path.with_suffix(""))


def _other_grid(folder: Path) -> None:
    path = sorted(folder.iterdir())[0]
    save(path, np.zeros(SHAPE, np.int16), AFFINE @ np.diag([2, 1, 1, 1]))


WRONG = {
    "no folder": (shutil.rmtree, [], "images is not a folder; expected the images"),
    "empty": (lambda f: [p.unlink() for p in f.iterdir()], [], "images"),
    "one image twice": (_twice, [], "are one image; remove one of them"),
    "another grid": (_other_grid, [], "another geometry than .*0000.nii.gz"),
    "a case lacks": (
        lambda folder: [path.unlink() for path in sorted(folder.iterdir())[:4]],
        [],
        "cases that .*images does not have: BraTS2021_00000.*--allow-unknown",
    ),
    "unknown edition": (None, ["--edition", "brats2077"], "unknown edition 'brats2077'; expected"),
    "a dataset, too": (
        None,
        ["-d", "137"],
        r"name either a dataset \(-d\), or .*--edition, --like",
    ),
}


@pytest.mark.parametrize(("spoil", "options", "message"), WRONG.values(), ids=WRONG)
def test_wrong_images_are_named_and_nothing_is_written(
    spoil, options, message, edition, predictions, tmp_path, capsys, nnunet_folders
):
    _write_images(tmp_path / "images", edition, "nnU-Net")
    if spoil:
        spoil(tmp_path / "images")
    code, text = _export(
        *(capsys, "--edition", "brats2021", "--like", tmp_path / "images"),
        *("-i", predictions, "-o", tmp_path / "out", *options),
    )
    assert code == 1
    assert re.search(message, text)
    assert not list(tmp_path.glob("*out*"))


@pytest.mark.parametrize("options", [[], ["--edition", "brats2021"], ["--like", "images"]])
def test_export_without_images_says_what_to_name(options, predictions, tmp_path, capsys):
    code, text = _export(capsys, "-i", predictions, "-o", tmp_path / "out", *options)
    assert code == 1
    assert "name either a dataset (-d), or the edition and the folder of its images" in text
