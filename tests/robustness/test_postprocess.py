"""What `s2ca postprocess` says of hostile inputs and outputs; nothing of the user's is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nnunetv2_s2ca.cli import main
from nnunetv2_s2ca.core.added_files import MOVING, UNFINISHED
from nnunetv2_s2ca.core.lock import output_lock
from tests.damaged_nifti import truncated, write_header
from tests.robustness.predictions import (
    MINUTES,
    contents,
    run_limited,
    write_predictions,
)
from tests.robustness.processes import let_go_on_without_a_worker, start_frozen

OURS = ["case_0.nii.gz", "case_1.nii.gz", "case_2.nii.gz", "case_3.nii.gz", "dataset.json"]


@pytest.fixture
def predictions(tmp_path):
    return write_predictions(tmp_path / "in")


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out"


def postprocess(source, output, *options) -> int:
    arguments = ["postprocess", "-i", source, "-o", output, *options, "-np", "1"]
    return main(list(map(str, arguments)))


@pytest.mark.parametrize("name", ["dataset.json", "plans.json"])
def test_the_outputs_own_json_stays_unless_asked(predictions, output, capsys, name):
    (predictions / "plans.json").write_text("{}")
    output.mkdir()
    (output / name).write_text("the user's own")
    before = contents(output)
    assert postprocess(predictions, output) == 1
    message = capsys.readouterr().err
    assert f"{output / name} exists" in message
    assert "--overwrite" in message
    assert contents(output) == before
    assert postprocess(predictions, output, "--overwrite") == 0
    assert (output / name).read_bytes() == (predictions / name).read_bytes()


def test_the_same_dataset_json_is_no_obstacle(predictions, output):
    output.mkdir()
    (output / "dataset.json").write_bytes((predictions / "dataset.json").read_bytes())
    assert postprocess(predictions, output) == 0
    assert sorted(path.name for path in output.iterdir()) == OURS


def test_overwriting_replaces_files_of_the_same_names_alone(predictions, output):
    output.mkdir()
    for name in ("case_1.nii.gz", "notes.txt", ".hidden"):
        (output / name).write_text("the user's own")
    (output / "folder").mkdir()
    (output / "folder/case_0.nii.gz").write_text("the user's own")
    assert postprocess(predictions, output, "--overwrite") == 0
    found = contents(output)
    for name in ("notes.txt", ".hidden", "folder/case_0.nii.gz"):
        assert found.pop(name) == b"the user's own"
    assert sorted(found.keys() - {"folder"}) == OURS
    assert found["case_1.nii.gz"] != b"the user's own"


def test_a_folder_in_the_place_of_a_prediction_is_named(predictions, output, capsys):
    (output / "case_1.nii.gz").mkdir(parents=True)
    before = contents(output)
    assert postprocess(predictions, output, "--overwrite") == 1
    assert "case_1.nii.gz is a folder" in capsys.readouterr().err
    assert contents(output) == before


def the_same(predictions, tmp_path):
    return predictions, predictions


def output_in_input(predictions, tmp_path):
    return predictions, predictions / "cleaned"


def input_in_output(predictions, tmp_path):
    return predictions, tmp_path


def link_to_input(predictions, tmp_path):
    (tmp_path / "link").symlink_to(predictions, target_is_directory=True)
    return predictions, tmp_path / "link"


def link_into_input(predictions, tmp_path):
    (predictions / "below").mkdir()
    (tmp_path / "link").symlink_to(predictions / "below", target_is_directory=True)
    return predictions, tmp_path / "link" / "cleaned"


def input_through_a_link(predictions, tmp_path):
    (tmp_path / "link").symlink_to(predictions, target_is_directory=True)
    return tmp_path / "link", predictions


@pytest.mark.parametrize(
    "overlap",
    [
        the_same,
        output_in_input,
        input_in_output,
        link_to_input,
        link_into_input,
        input_through_a_link,
    ],
    ids=lambda function: function.__name__,
)
def test_input_and_output_that_overlap_are_refused(predictions, tmp_path, capsys, overlap):
    source, target = overlap(predictions, tmp_path)
    before = contents(tmp_path)
    assert postprocess(source, target, "--overwrite") == 1
    assert "overlap" in capsys.readouterr().err
    assert contents(tmp_path) == before


def damaged_file(predictions: Path) -> None:
    truncated(predictions / "case_2.nii.gz")


def affine_of_nan(predictions: Path) -> None:
    write_header(
        predictions / "case_2.nii.gz", offset=280, value=np.full(12, np.nan, "<f4").tobytes()
    )


def spacing_of_nan(predictions: Path) -> None:
    write_header(predictions / "case_2.nii.gz", offset=80, value=np.float32(np.nan).tobytes())


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damaged_file, "cannot be read"),
        (affine_of_nan, "expected finite"),
        (spacing_of_nan, "expected finite"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_bad_file_is_named_and_nothing_is_written(predictions, tmp_path, capsys, damage, words):
    damage(predictions)
    before = contents(tmp_path)
    assert postprocess(predictions, tmp_path / "new/out") == 1
    message = capsys.readouterr().err
    assert "case_2.nii.gz" in message
    assert words in message
    assert contents(tmp_path) == before


def test_without_dataset_json_no_option_of_another_command_is_advised(predictions, output, capsys):
    (predictions / "dataset.json").unlink()
    assert postprocess(predictions, output) == 1
    message = capsys.readouterr().err
    assert "-djfile" in message
    assert "--edition" not in message


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux'")
def test_an_output_that_cannot_be_written_is_named(predictions, capsys):
    assert postprocess(predictions, "/proc/cleaned") == 1
    assert "/proc/cleaned cannot be written" in capsys.readouterr().err


def test_an_output_relative_to_a_folder_that_is_gone_is_named(
    predictions, tmp_path, capsys, monkeypatch
):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert postprocess(predictions, "cleaned") == 1
    assert "cleaned" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
@pytest.mark.parametrize(("processes", "existing"), [("1", True), ("2", False)])
def test_a_disk_that_fills_up_leaves_no_half_output(predictions, tmp_path, processes, existing):
    (predictions / "plans.json").write_bytes(os.urandom(5000))
    output = tmp_path / "out"
    if existing:
        output.mkdir()
        (output / "notes.txt").write_text("the user's own")
    before = contents(tmp_path)
    options = ["-i", predictions, "-o", output, "-np", processes]
    run = run_limited("RLIMIT_FSIZE", 4096, "postprocess", *options)
    assert run.returncode == 1
    assert f"{output} cannot be written: File too large" in run.stderr
    assert "Traceback" not in run.stderr
    assert contents(tmp_path) == before


@pytest.mark.parametrize("existing", [False, True])
def test_a_killed_worker_is_named_with_its_case(predictions, tmp_path, existing):
    if existing:
        (tmp_path / "out").mkdir()
    before = contents(tmp_path)
    frozen = start_frozen("postprocess", "-i", predictions, "-o", tmp_path / "out", "-np", 2)
    code, errors = let_go_on_without_a_worker(*frozen)
    assert code == 1
    assert "was killed (SIGKILL)" in errors
    assert "case_" in errors
    assert "Traceback" not in errors
    assert contents(tmp_path) == before


def test_a_second_run_into_the_same_folder_is_refused(predictions, output, capsys):
    output.mkdir()
    with output_lock(output):
        assert postprocess(predictions, output) == 1
    assert "already being written, by process" in capsys.readouterr().err
    assert not list(output.iterdir())


# Ends the process outright at the N-th file that moves into an output which exists already
_KILLED = """
import os, signal, sys
from pathlib import Path
import nnunetv2_s2ca.core.added_files
from nnunetv2_s2ca.cli import main

moves, replace = [], Path.replace

def counted(self, target):
    moves.append(target)
    if len(moves) == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(self, target)

Path.replace = counted
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("moves", range(1, 7))
def test_after_a_kill_while_files_move_in_the_same_command_completes_them(
    predictions, output, tmp_path, moves
):
    output.mkdir()
    (output / "notes.txt").write_text("the user's own")
    arguments = ["postprocess", "-i", predictions, "-o", output, "-np", "1"]
    command = [sys.executable, "-c", _KILLED, str(moves), *map(str, arguments)]
    killed = subprocess.run(command, capture_output=True, timeout=MINUTES)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(output.glob("*.nii.gz"))) == min(max(moves - 2, 0), 4)
    assert postprocess(predictions, output) == 0
    assert postprocess(predictions, tmp_path / "undisturbed") == 0
    found = contents(output)
    assert found.pop("notes.txt") == b"the user's own"
    assert found == contents(tmp_path / "undisturbed")


@pytest.mark.parametrize("listed", ["", "[1]", '{"a": 1}', '["notes.txt"]', '["../in"]'])
def test_a_list_of_moving_files_that_is_damaged_gives_nothing_away(
    predictions, output, capsys, listed
):
    (output / UNFINISHED).mkdir(parents=True)
    (output / UNFINISHED / MOVING).write_text(listed)
    (output / "case_0.nii.gz").write_text("the user's own")
    assert postprocess(predictions, output) == 1
    assert "case_0.nii.gz exists" in capsys.readouterr().err
    assert (output / "case_0.nii.gz").read_text() == "the user's own"
