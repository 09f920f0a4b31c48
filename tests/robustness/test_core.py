"""The shared primitives: workers, locks, folders that are replaced, files that are read."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from nnunetv2_s2ca.core import folders
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import check_output_folder, read_json, whole_file, write_text
from nnunetv2_s2ca.core.folders import check_apart, replaced_folder
from nnunetv2_s2ca.core.folds import read_splits
from nnunetv2_s2ca.core.lock import output_lock
from nnunetv2_s2ca.core.workers import map_cases
from tests.waiting import wait_for


def _work(case: str) -> str:
    match case.partition(" ")[0]:
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "left":
            os._exit(3)
        case "memory":
            raise MemoryError
        case "refused":
            raise UserError(f"{case}: no such label")
        case "broken":
            raise KeyError(case)
    return case.upper()


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_the_order_of_the_cases(processes):
    cases = [f"case {number}" for number in range(7)]
    assert map_cases(_work, cases, processes=processes) == [case.upper() for case in cases]


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("killed here", "killed here: the worker process was killed .SIGKILL.*memory"),
        ("left here", "left here: the worker process ended .code 3.*memory"),
        ("memory here", "memory here: needs more memory"),
        ("refused here", "refused here: no such label"),
    ],
)
def test_case_that_ends_its_worker_is_named(case, message):
    with pytest.raises(UserError, match=message):
        map_cases(_work, ["a", "b", case, "c"], processes=2)
    assert not [p for p in psutil.Process().children() if "spawn_main" in str(p.cmdline())]


def test_case_too_large_for_the_memory_is_named_without_workers_too():
    with pytest.raises(UserError, match="memory here: needs more memory"):
        map_cases(_work, ["memory here"], processes=1)


def test_other_error_of_a_worker_shows_where_it_was_raised():
    with pytest.raises(KeyError) as raised:
        map_cases(_work, ["a", "broken"], processes=2)
    assert "in _work" in str(raised.value.__cause__)


PROGRAM = """
import sys, time
from pathlib import Path
from nnunetv2_s2ca.core.signals import signals_as_exceptions
from nnunetv2_s2ca.core.workers import map_cases

def work(folder):
    Path(folder, str(__import__("os").getpid())).touch()
    time.sleep(3600)

if __name__ == "__main__":
    with signals_as_exceptions():
        map_cases(work, [sys.argv[1]] * 2, processes=2)
"""


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_worker_outlives_its_command(tmp_path, sign):
    program, folder = tmp_path / "program.py", tmp_path / "pids"
    program.write_text(PROGRAM)
    folder.mkdir()
    command = subprocess.Popen([sys.executable, program, folder], stderr=subprocess.DEVNULL)
    pids = wait_for(lambda: (found := list(folder.iterdir())) and len(found) == 2 and found)
    workers = [psutil.Process(int(path.name)) for path in pids]
    command.send_signal(sign)
    command.wait()
    wait_for(lambda: not any(worker.is_running() for worker in workers))


def test_a_second_writer_is_refused_and_the_first_one_named(tmp_path):
    output = tmp_path / "made" / "output"
    with (
        output_lock(output),
        pytest.raises(
            UserError,
            match=rf"output is already being filled, by process {os.getpid()} on .*Wait for it",
        ),
        output_lock(output, doing="filled"),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_links_to_an_output_share_its_lock(tmp_path):
    (tmp_path / "output").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "output")
    with (
        output_lock(tmp_path / "link"),
        pytest.raises(UserError, match="already being written"),
        output_lock(tmp_path / "output"),
    ):
        pass


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path):
    program = (
        "import os, sys\nfrom pathlib import Path\n"
        "from nnunetv2_s2ca.core.lock import output_lock\n"
        "with output_lock(Path(sys.argv[1])):\n    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path / "output"], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    with output_lock(tmp_path / "output"):
        pass
    assert not list(tmp_path.iterdir())


def _file(target: Path) -> None:
    target.write_text("the user's own")


def _folder(target: Path) -> None:
    target.mkdir()
    (target / "mine.txt").write_text("the user's own")


@pytest.mark.parametrize(
    ("arrange", "overwrite", "message"),
    [
        (_file, True, "is a file; expected a folder"),
        (_file, False, "is a file; expected a folder"),
        (_folder, False, "exists; pass `overwrite=True`"),
    ],
)
def test_what_may_not_be_replaced_stays(tmp_path, arrange, overwrite, message):
    target = tmp_path / "target"
    arrange(target)
    before = {path: path.read_text() for path in target.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=message), replaced_folder(target, overwrite=overwrite):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    assert all(path.read_text() == text for path, text in before.items())


@pytest.mark.parametrize("place", ["folder", "link", "dangling link", "nothing"])
def test_a_folder_is_replaced_where_it_is(tmp_path, place):
    target, elsewhere = tmp_path / "target", tmp_path / "elsewhere"
    if place == "folder":
        _folder(target)
    if place == "link":
        _folder(elsewhere)
    if "link" in place:
        target.symlink_to(elsewhere)
    for _ in range(3):
        with replaced_folder(target, overwrite=True) as folder:
            (folder / "new.txt").write_text("new")
        assert [path.name for path in target.iterdir()] == ["new.txt"]
        assert not list(tmp_path.glob(".*"))
    assert target.is_symlink() == ("link" in place)


@pytest.mark.parametrize("existed", [False, True])
def test_what_the_user_puts_there_meanwhile_is_kept(tmp_path, existed):
    target = tmp_path / "target"
    if existed:
        target.mkdir()

    def write() -> None:
        with replaced_folder(target, overwrite=False) as folder:
            (folder / "new.txt").touch()
            target.mkdir(exist_ok=True)
            (target / "mine.txt").touch()

    with pytest.raises(UserError, match="exists; pass `overwrite=True`"):
        write()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["mine.txt", "target"]


def test_a_failure_keeps_the_former_folder(tmp_path):
    _folder(tmp_path / "target")
    with pytest.raises(ZeroDivisionError), replaced_folder(tmp_path / "target", overwrite=True):
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.rglob("*")] == ["target", "mine.txt"]


@pytest.mark.parametrize("hidden", ["partial", "former", "deleted"])
@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_what_lies_under_a_hidden_name_is_no_obstacle(tmp_path, hidden, kind):
    users, name = tmp_path / "users", tmp_path / "place" / f".target.{hidden}"
    name.parent.mkdir()
    _folder(users)
    _folder(name.parent / "target")
    {"folder": _folder, "file": _file, "link": lambda path: path.symlink_to(users)}[kind](name)
    with replaced_folder(name.parent / "target", overwrite=True) as folder:
        assert not list(folder.iterdir())
    assert [path.name for path in name.parent.iterdir()] == ["target"]
    assert (users / "mine.txt").exists()  # what a link led to


def test_a_folder_that_a_killed_run_had_moved_aside_comes_back(tmp_path):
    _folder(tmp_path / ".target.former")
    with (
        pytest.raises(UserError, match="exists; pass `overwrite=True`"),
        replaced_folder(tmp_path / "target", overwrite=False),
    ):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["target", "mine.txt"]


def test_a_folder_whose_deletion_was_killed_does_not_come_back(tmp_path, monkeypatch):
    _folder(tmp_path / "target")
    with monkeypatch.context() as context:
        context.setattr(folders.shutil, "rmtree", lambda *_, **__: None)
        with replaced_folder(tmp_path / "target", overwrite=True):
            pass
    (tmp_path / "target").rmdir()  # by the user
    with replaced_folder(tmp_path / "target", overwrite=False) as folder:
        (folder / "new.txt").touch()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["new.txt", "target"]


@pytest.mark.parametrize(
    ("output", "source"),
    [
        ("a", "a"),
        ("a/b", "a"),
        ("a", "a/b"),
        ("a", "a/b/c/file"),
        ("a", "link/b"),
        ("link", "a"),
        ("x", ".x.partial/b"),
        ("x", ".x.former"),
    ],
)
def test_input_and_output_that_overlap_are_refused(tmp_path, output, source):
    (tmp_path / "a/b/c").mkdir(parents=True)
    (tmp_path / "a/b/c/file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    for ending in ("partial", "former"):
        (tmp_path / f".x.{ending}" / "b").mkdir(parents=True)
    with pytest.raises(UserError, match="overlap"):
        check_apart(tmp_path / output, tmp_path / source)
    with pytest.raises(UserError, match="overlap"):
        check_apart(tmp_path / output, tmp_path, tmp_path / source)


def test_neighbours_do_not_overlap(tmp_path):
    for name in ("a", "ab", "a.b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    check_apart(tmp_path / "a", tmp_path / "ab", tmp_path / "a.b" / "file", tmp_path / "none")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"1" * 5001 + b"}", "is not a JSON file"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        (b"\xff\xfe", "not UTF-8"),
        (b"", "is not a JSON file"),
        (b"[1]", "expected a JSON object, .*found a list"),
        (b"3", "expected a JSON object, .*found a int"),
        (None, "does not exist"),
    ],
)
def test_json_that_cannot_be_read_is_named(tmp_path, content, message):
    path = tmp_path / "some.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=rf"some\.json.*{message}"):
        read_json(path)


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_file_is_not_waited_for(tmp_path, kind):
    os.mkfifo(tmp_path / "x") if kind == "pipe" else (tmp_path / "x").mkdir()
    with pytest.raises(UserError, match=f"x is a {kind}.*; expected a file"):
        read_json(tmp_path / "x")


@pytest.mark.parametrize(
    "fold",
    [
        {"train": "abc", "val": ["d"]},
        {"train": ["a"], "val": [1, 2]},
        {"train": [["a"]], "val": ["b"]},
        {"train": ["a"], "val": ["b", "b"]},
        {"val": ["b"]},
        ["a", "b"],
        "ab",
    ],
)
def test_folds_that_are_no_lists_of_cases_are_named(tmp_path, fold):
    write_text(tmp_path / "splits_final.json", json.dumps([fold]))
    with pytest.raises(UserError, match=r"splits_final\.json.*fold 0"):
        read_splits(tmp_path / "splits_final.json")


def test_a_full_disk_names_the_file_and_leaves_nothing(tmp_path):
    (tmp_path / "x.txt").write_text("old")
    with (
        pytest.raises(UserError, match=r"x\.txt cannot be written: .*full"),
        whole_file(tmp_path / "x.txt"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("x.txt", "old")]


def test_what_a_killed_writer_has_left_is_overwritten(tmp_path):
    (tmp_path / ".s2ca.x.txt").write_text("half")
    write_text(tmp_path / "x.txt", "whole")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("x.txt", "whole")]


def test_names_that_are_not_utf8_can_be_written(tmp_path):
    write_text(tmp_path / "x.txt", os.fsdecode(b"case_\xff"))
    assert (tmp_path / "x.txt").read_text() == "case_\\udcff"


@pytest.mark.parametrize("place", ["file", "file/below", "loop/below", "gone/below"])
def test_output_that_cannot_be_a_folder_is_refused_at_once(tmp_path, monkeypatch, place):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    if place.startswith("gone"):
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        (tmp_path / "here").rmdir()
        folder = Path("out")
    else:
        folder = tmp_path / place
    with pytest.raises(UserError):
        check_output_folder(folder)
