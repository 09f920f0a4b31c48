"""Datasets of some of the sequences."""

from __future__ import annotations

import json

import numpy as np
import pytest

import nnunetv2_s2ca
from nnunetv2_s2ca import UserError
from nnunetv2_s2ca.brats.editions import EDITIONS
from nnunetv2_s2ca.cli import main
from tests.dataset_conversion.synthetic_cases import identifiers, write_download
from tests.segmentation.images import labels


@pytest.mark.parametrize(
    ("edition", "channels", "kept"),
    [
        ("brats2019", ["t1ce", "flair"], ["t1ce", "flair"]),
        ("brats2019", ["FLAIR", "t1"], ["t1", "flair"]),
        ("brats2023-gli", ["t2f", "t1ce"], ["t1c", "t2f"]),
    ],
)
@pytest.mark.parametrize("link", [False, True])
def test_the_dataset_has_these_channels_only(
    tmp_path, nnunet_folders, edition, channels, kept, link
):
    known = EDITIONS[edition]
    write_download(tmp_path / "in", known)
    for path in (tmp_path / "in").rglob("*t2w.nii.gz"):
        path.unlink()  # is not asked for
    done = nnunetv2_s2ca.convert(
        edition, tmp_path / "in", channels=channels, link=link, processes=1
    )
    described = json.loads((done.folder / "dataset.json").read_text())
    names = [{"t1": "T1", "flair": "FLAIR", "t2f": "FLAIR"}.get(name, "T1ce") for name in kept]
    assert described["channel_names"] == dict(zip("01", names, strict=True))
    for case in identifiers(known, 3):
        for number, name in enumerate(kept):
            (source,) = (tmp_path / "in").rglob(f"{case}?{name}.nii.gz")
            image = done.folder / "imagesTr" / f"{case}_{number:04d}.nii.gz"
            if link:
                image = type(image)(described["dataset"][case]["images"][number])
            assert np.array_equal(labels(image), labels(source))
    if not link:
        assert len(list((done.folder / "imagesTr").iterdir())) == 6


def test_channels_of_4d_files(tmp_path, nnunet_folders):
    known = EDITIONS["msd-task01"]
    write_download(tmp_path / "in", known)
    done = nnunetv2_s2ca.convert(
        "msd-task01", tmp_path / "in", channels=["flair", "t1ce"], processes=1
    )
    for case in identifiers(known, 3):
        source = labels(tmp_path / "in" / "imagesTr" / f"{case}.nii.gz")
        for number, place in enumerate((2, 0)):  # T1ce and FLAIR in the MSD's files
            image = done.folder / "imagesTr" / f"{case}_{number:04d}.nii.gz"
            assert np.array_equal(labels(image), source[..., place])


def test_splits_and_export_work_with_the_dataset(tmp_path, nnunet_folders):
    write_download(tmp_path / "in", EDITIONS["brats2019"], count=5)
    command = ["convert", "brats2019", str(tmp_path / "in"), "-np", "1", "-d", "543"]
    assert main([*command, "--channels", "t1ce", "flair"]) == 0
    (folder,) = (nnunet_folders / "nnUNet_raw").glob("Dataset543*")
    nnunetv2_s2ca.write_splits(543, folds=2)
    exported = nnunetv2_s2ca.export(543, folder / "labelsTr", tmp_path / "out", processes=1)
    for path in exported.files:
        (source,) = (tmp_path / "in").rglob(path.name.replace(".nii.gz", "_seg.nii.gz"))
        assert np.array_equal(labels(path), labels(source))


def test_a_conversion_of_other_channels_is_not_resumed(tmp_path, nnunet_folders, monkeypatch):
    from nnunetv2_s2ca.dataset_conversion import convert as converting

    write_download(tmp_path / "in", EDITIONS["brats2019"])

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(converting, "_write_description", interrupt)
        with pytest.raises(KeyboardInterrupt):
            nnunetv2_s2ca.convert("brats2019", tmp_path / "in", processes=1)
    done = nnunetv2_s2ca.convert("brats2019", tmp_path / "in", channels=["t2"], processes=1)
    assert len(list((done.folder / "imagesTr").iterdir())) == 3


@pytest.mark.parametrize(
    ("edition", "channels"),
    [("brats2019", []), ("brats2019", ["t3"]), ("brats2024-men-rt", ["t1ce", "flair"])],
)
def test_channels_that_the_edition_lacks_are_named(tmp_path, nnunet_folders, edition, channels):
    with pytest.raises(UserError, match=rf"`channels` is .*; {edition} has .*t1ce"):
        nnunetv2_s2ca.convert(edition, tmp_path, channels=channels)
