"""`s2ca convert` on overlapping folders, changing sources, odd targets, and killed."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from nnunetv2_s2ca import cli
from nnunetv2_s2ca.brats.editions import EDITIONS
from nnunetv2_s2ca.dataset_conversion import convert as convert_module
from nnunetv2_s2ca.dataset_conversion.convert import Options, convert
from tests.dataset_conversion.synthetic_cases import AFFINE, SHAPE, write_case, write_download
from tests.robustness.processes import (
    COMMAND,
    end_frozen,
    hidden_files,
    let_go_on_without_a_worker,
    run,
    start_frozen,
    wait_until_gone,
)
from tests.waiting import MINUTES

EDITION = EDITIONS["brats2020"]
CASE, OTHER = "BraTS20_Training_001", "BraTS20_Training_002"
NAME = "Dataset082_BraTS2020"


@pytest.fixture
def source(tmp_path, nnunet_folders):
    write_download(tmp_path / "source", EDITION, count=2)
    return tmp_path / "source"


def _files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _command(source, *options):
    return ["convert", EDITION.name, str(source), "-np", "1", *options]


OVERLAPS = {
    "the source is the dataset": lambda raw: raw / NAME,
    "the source lies in the dataset": lambda raw: raw / NAME / "download",
    "the source is the hidden folder": lambda raw: raw / f".{NAME}.partial",
    "the source lies in the hidden folder": lambda raw: raw / f".{NAME}.partial" / "download",
    "the source holds the dataset": lambda raw: raw,
}


@pytest.mark.parametrize("link", [False, True], ids=["copy", "link"])
@pytest.mark.parametrize("place", OVERLAPS.values(), ids=OVERLAPS)
def test_source_and_dataset_that_overlap_are_refused(place, link, raw, capsys):
    write_download(place(raw), EDITION, count=2)
    (raw / NAME).mkdir(exist_ok=True)
    before = _files(raw)
    options = ["--overwrite", *(["--link"] if link else [])]
    assert cli.main(_command(place(raw), *options)) == 1
    assert "overlap" in capsys.readouterr().err
    assert _files(raw) == before


def test_source_whose_files_are_links_into_the_dataset_is_refused(source, raw, capsys):
    shutil.copytree(source, raw / NAME)
    for path in source.rglob("*.nii.gz"):
        path.unlink()
        path.symlink_to(raw / NAME / path.relative_to(source))
    before = _files(raw)
    assert cli.main(_command(source, "--overwrite")) == 1
    assert "overlap" in capsys.readouterr().err
    assert _files(raw) == before


@pytest.mark.parametrize("kind", ["link", "dangling link"])
def test_dataset_that_is_a_link_is_written_where_it_leads(kind, source, raw, tmp_path):
    elsewhere = tmp_path / "large_disk"
    if kind == "link":
        elsewhere.mkdir()
        (elsewhere / "old.txt").touch()
    (raw / NAME).symlink_to(elsewhere)
    for _ in range(3):
        assert cli.main(_command(source, "--overwrite")) == 0
        assert (raw / NAME).is_symlink()
        assert len(list((elsewhere / "labelsTr").iterdir())) == 2
        assert not (elsewhere / "old.txt").exists()
    assert not hidden_files(tmp_path)


def test_file_in_the_place_of_the_dataset_stays(source, raw, capsys):
    (raw / NAME).write_text("the user's own")
    for _ in range(3):
        assert cli.main(_command(source, "--overwrite")) == 1
        assert f"{raw / NAME} is a file; expected a folder" in capsys.readouterr().err
    assert _files(raw) == {NAME: b"the user's own"}


def test_hidden_folder_that_is_a_link_is_not_followed(source, raw, tmp_path):
    (tmp_path / "users").mkdir()
    (tmp_path / "users" / "mine.txt").touch()
    (raw / f".{NAME}.partial").symlink_to(tmp_path / "users")
    assert cli.main(_command(source)) == 0
    assert [path.name for path in (tmp_path / "users").iterdir()] == ["mine.txt"]
    assert not hidden_files(raw)


@pytest.mark.parametrize("place", ["nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"])
def test_dataset_of_the_same_id_and_another_name_is_noticed(place, source, nnunet_folders, capsys):
    other = nnunet_folders / place / "Dataset082_Other"
    other.mkdir()
    assert cli.main(_command(source, "--overwrite")) == 1
    assert f"{other} has the same id as {NAME}" in capsys.readouterr().err
    assert not (nnunet_folders / "nnUNet_raw" / NAME).exists()


@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "C"},
        {"PYTHONIOENCODING": "ascii"},
    ],
    ids=["C without UTF-8", "C", "ASCII streams"],
)
def test_names_beyond_ascii_in_any_locale(environment, source, raw):
    name = "BraTS20_Training_ä3"
    write_case(source / name, EDITION, name)
    (source / name / f"{name}_t1.nii.gz").unlink()
    code, output = run(*_command(source, "--skip-invalid"), **environment)
    assert "Traceback" not in output
    assert code == 0
    assert "BraTS20_Training_" in (raw / NAME / "s2ca_skipped.txt").read_text(encoding="utf-8")
    assert not hidden_files(raw)


def test_path_that_is_not_utf8_can_be_copied_but_not_linked(source, raw, capsys):
    odd = source.with_name(os.fsdecode(b"source_\xff"))
    source.rename(odd)
    assert cli.main(_command(odd, "--link")) == 1
    assert "cannot be linked, since its path is not UTF-8" in capsys.readouterr().err
    assert cli.main(_command(odd)) == 0


def test_scaled_voxels_of_uncompressed_files_stay_bit_for_bit(tmp_path, raw):
    write_case(tmp_path / "source" / CASE, EDITION, CASE, ending=".nii")
    path = tmp_path / "source" / CASE / f"{CASE}_t1.nii"
    image = nib.Nifti1Image(np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE), AFFINE)
    image.header.set_slope_inter(0.1234567, 3)
    nib.save(image, path)
    assert cli.main(_command(tmp_path / "source")) == 0
    copy = raw / NAME / "imagesTr" / f"{CASE}_0000.nii.gz"
    assert gzip.decompress(copy.read_bytes()) == path.read_bytes()


def _replaced(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)  # as long as before


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def _gone(path: Path) -> None:
    path.unlink()


CHANGES = [_replaced, _truncated, _gone]


@pytest.fixture
def change_after_the_check(monkeypatch):
    """Has a file of the source changed after all were checked, before any is copied."""

    def arrange(change, path):
        real = convert_module.check_cases

        def check(*args, **options):
            checked = real(*args, **options)
            change(path)
            return checked

        monkeypatch.setattr(convert_module, "check_cases", check)

    return arrange


@pytest.mark.parametrize("link", [[], ["--link"]], ids=["copy", "link"])
@pytest.mark.parametrize("suffix", ["t1", "flair", "seg"])
@pytest.mark.parametrize("change", CHANGES)
def test_file_that_changes_after_the_check_is_named(
    change, suffix, link, source, raw, change_after_the_check, capsys
):
    path = source / CASE / f"{CASE}_{suffix}.nii.gz"
    change_after_the_check(change, path)
    assert cli.main(_command(source, *link)) == 1
    assert f"{CASE}: {path}: has changed since it was checked" in capsys.readouterr().err
    assert not list(raw.iterdir())


@pytest.mark.parametrize("link", [[], ["--link"]], ids=["copy", "link"])
@pytest.mark.parametrize("change", CHANGES)
def test_case_that_changes_after_the_check_can_be_skipped(
    change, link, source, raw, change_after_the_check
):
    path = source / CASE / f"{CASE}_t1.nii.gz"
    change_after_the_check(change, path)
    assert cli.main(_command(source, *link, "--skip-invalid")) == 0
    assert f"{path}: has changed" in (raw / NAME / "s2ca_skipped.txt").read_text()
    assert not list((raw / NAME).rglob(f"{CASE}*"))
    assert json.loads((raw / NAME / "dataset.json").read_text())["numTraining"] == 1


@pytest.mark.parametrize("skip", [False, True])
def test_4d_file_that_is_damaged_after_the_check_is_named(
    skip, tmp_path, raw, change_after_the_check, capsys
):
    edition = EDITIONS["msd-task01"]
    write_download(tmp_path / "source", edition, count=2)
    path = tmp_path / "source" / "imagesTr" / "BRATS_00000.nii.gz"

    def damage(path):
        state = path.stat()
        content = bytearray(path.read_bytes())
        middle = len(content) // 2
        content[middle : middle + 40] = b"\xff" * 40
        path.write_bytes(content)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))

    change_after_the_check(damage, path)
    options = ["--skip-invalid"] if skip else []
    command = ["convert", edition.name, str(tmp_path / "source"), "-np", "1", *options]
    assert cli.main(command) == (0 if skip else 1)
    shown = (
        (raw / "Dataset001_BrainTumour" / "s2ca_skipped.txt").read_text()
        if skip
        else capsys.readouterr().err
    )
    assert re.search(rf"BRATS_00000: {path}: ", shown)
    assert not hidden_files(raw)


def test_closed_stderr_is_no_obstacle(source, raw, tmp_path):
    command = [*COMMAND, "convert", EDITION.name, str(source), "-np", "2"]
    shell = ["sh", "-c", '"$@" 2>&- >&-', "sh", *command]
    assert subprocess.run(shell, check=False).returncode == 0
    assert len(list((raw / NAME / "labelsTr").iterdir())) == 2


@pytest.fixture
def frozen(source, raw):
    """A conversion that holds its lock and has two workers, stopped."""
    process, workers = start_frozen("convert", EDITION.name, source, "-np", 2)
    yield process, workers
    end_frozen(process, workers)


def test_second_conversion_to_an_id_is_refused(source, raw, tmp_path, frozen, capsys):
    process, _ = frozen
    other = tmp_path / "other"
    write_download(other, EDITION, count=3)
    for folder in (source, other):
        for options in ([], ["--overwrite"], ["--name", "Other"]):
            assert cli.main(_command(folder, *options)) == 1, (folder, options)
            assert re.search(
                rf"Dataset082 is already being converted to, by process {process.pid} on .*Wait "
                "for it",
                capsys.readouterr().err,
            ), (folder, options)
    process.send_signal(signal.SIGCONT)
    output, errors = process.communicate(timeout=MINUTES)
    assert process.returncode == 0, output + errors
    assert [path.name for path in raw.iterdir()] == [NAME]
    assert len(_files(raw / NAME)) == 2 * 5 + 2


@pytest.mark.parametrize(
    ("sign", "code"),
    [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 143), (signal.SIGINT, 130)],
)
def test_no_worker_outlives_a_killed_conversion_and_the_next_one_ends_well(
    sign, code, source, raw, frozen
):
    process, workers = frozen
    process.send_signal(sign)
    process.send_signal(signal.SIGCONT)
    _, errors = process.communicate(timeout=MINUTES)
    assert process.returncode == code
    assert "Traceback" not in errors
    wait_until_gone(workers)
    assert cli.main(_command(source)) == 0
    assert [path.name for path in raw.iterdir()] == [NAME]
    undisturbed = convert(
        EDITION, source, Options(dataset_id=500), processes=1, say=lambda line: None
    ).folder
    assert _files(raw / NAME) == _files(undisturbed)


def test_worker_that_the_system_kills_is_a_message(source, raw, frozen):
    code, errors = let_go_on_without_a_worker(*frozen)
    assert code == 1
    assert "Traceback" not in errors
    assert re.search(r"BraTS20_Training_00\d: the worker process was killed .*memory", errors)
    assert not list(raw.iterdir())
