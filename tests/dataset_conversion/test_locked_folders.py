"""Folders that may not be entered or written to are named, whoever runs the tests."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from nnunetv2_s2ca import cli
from nnunetv2_s2ca.brats.editions import EDITIONS
from nnunetv2_s2ca.dataset_conversion import export as export_module
from nnunetv2_s2ca.dataset_conversion.convert import Options, convert
from tests.dataset_conversion.synthetic_cases import write_download

EDITION = EDITIONS["brats2020"]
CASE = "BraTS20_Training_001"


@pytest.fixture
def source(tmp_path, nnunet_folders):
    folder = tmp_path / "downloads" / "brats"
    write_download(folder, EDITION, count=2)
    return folder


@pytest.fixture
def dataset(source):
    return convert(EDITION, source, processes=1).folder


@pytest.fixture
def lock(monkeypatch):
    """Take away the right to enter a folder, which an administrator would keep."""

    def refusing(function, folder, *, itself):
        def call(path=".", *args, **kwargs):
            if isinstance(path, str | os.PathLike):
                place = Path(path)
                if folder in place.parents or (itself and place == folder):
                    raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return function(path, *args, **kwargs)

        return call

    def lock(folder):
        for name in ("stat", "mkdir", "listdir", "scandir"):
            itself = name in ("listdir", "scandir")
            monkeypatch.setattr(os, name, refusing(getattr(os, name), folder, itself=itself))

    return lock


def run(capsys, *command) -> str:
    """What the command says, which has to fail by a message."""
    assert cli.main([*map(str, command), *(() if "splits" in command else ("-np", "1"))])
    return capsys.readouterr().err


@pytest.mark.parametrize("command", ["check", "convert"])
@pytest.mark.parametrize("locked", ["downloads", "downloads/brats", f"downloads/brats/{CASE}"])
def test_source_that_cannot_be_read_is_named(source, tmp_path, lock, capsys, command, locked):
    lock(tmp_path / locked)
    named = max(tmp_path / locked, source)
    assert f"{named} cannot be read: Permission denied" in run(capsys, command, "brats2020", source)


@pytest.mark.parametrize("locked", ["", "nnUNet_raw"])
def test_raw_folder_that_cannot_be_read_is_named(source, tmp_path, lock, capsys, locked):
    lock(tmp_path / locked)
    expected = f"nnUNet_raw is {tmp_path / 'nnUNet_raw'}, which cannot be read: Permission denied"
    assert expected in run(capsys, "convert", "brats2020", source)
    assert expected in run(capsys, "splits", "-d", 82)


def test_folds_that_cannot_be_written_are_named(dataset, tmp_path, monkeypatch, capsys):
    def refuse(path, *args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "mkdir", refuse)
    file = tmp_path / "nnUNet_preprocessed" / dataset.name / "splits_final.json"
    assert f"{file} cannot be written: Permission denied" in run(
        capsys, "splits", "-d", 82, "--folds", 2
    )


@pytest.mark.parametrize("place", ["locked", "locked/below"])
def test_export_to_a_locked_folder_is_refused(dataset, tmp_path, lock, capsys, place):
    (tmp_path / "locked").mkdir()
    lock(tmp_path / "locked")
    message = run(capsys, "export", "-d", 82, "-i", dataset / "labelsTr", "-o", tmp_path / place)
    assert f"{tmp_path / place}" in message
    assert "cannot be" in message
    assert "Permission denied" in message


def test_export_from_a_locked_folder_is_refused(dataset, tmp_path, lock, capsys):
    (tmp_path / "locked").mkdir()
    lock(tmp_path / "locked")
    message = run(capsys, "export", "-d", 82, "-i", tmp_path / "locked", "-o", tmp_path / "out")
    assert f"{tmp_path / 'locked'} cannot be read or written: Permission denied" in message


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_export_to_a_file_is_refused(dataset, tmp_path, capsys, place):
    (tmp_path / "file").write_text("the user's own")
    message = run(capsys, "export", "-d", 82, "-i", dataset / "labelsTr", "-o", tmp_path / place)
    assert f"{tmp_path / 'file'} is a file" in message


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOSPC])
def test_export_names_the_file_that_it_cannot_write(dataset, tmp_path, monkeypatch, capsys, number):
    def refuse(content, path):
        path.touch()
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(export_module, "write_compressed", refuse)
    out = tmp_path / "out"
    message = run(capsys, "export", "-d", 82, "-i", dataset / "labelsTr", "-o", out)
    assert f"{out / CASE}.nii.gz cannot be written: {os.strerror(number)}" in message
    assert not list(tmp_path.glob("*out*"))


def test_export_names_the_image_that_a_link_lost(source, tmp_path, capsys):
    dataset = convert(EDITION, source, Options(link=True), processes=1).folder
    lost = source / CASE / f"{CASE}_t1.nii.gz"
    lost.unlink()
    message = run(capsys, "export", "-d", 82, "-i", dataset / "labelsTr", "-o", tmp_path / "out")
    assert f"{lost} cannot be read" in message
