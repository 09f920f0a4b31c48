"""What `s2ca compare` says of tables that `s2ca evaluate` has not written."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nnunetv2_s2ca.cli import main
from tests.robustness.predictions import (
    contents,
    run_limited,
    write_cases,
    write_predictions,
)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory) -> bytes:
    """The metrics.csv of three cases."""
    folder = tmp_path_factory.mktemp("run")
    truth = write_cases(folder / "truth", count=3)
    prediction = write_predictions(folder / "predictions", count=3)
    assert main(["evaluate", "--ref", str(truth), "--pred", str(prediction), "-np", "1"]) == 0
    return (prediction / "s2ca_evaluation/metrics.csv").read_bytes()


@pytest.fixture
def runs(tmp_path, evaluated):
    paths = tmp_path / "first.csv", tmp_path / "second.csv"
    for path in paths:
        path.write_bytes(evaluated)
    return paths


def compare(runs, *options) -> int:
    return main(["compare", *map(str, runs), *map(str, options)])


def with_cell(line: int, column: str, value: str):
    """A damage that writes `value` into a cell; the header is line 1."""

    def damage(content: bytes) -> bytes:
        lines = content.decode().splitlines()
        cells = lines[line - 1].split(",")
        cells[lines[0].split(",").index(column)] = value
        lines[line - 1] = ",".join(cells)
        return "\n".join([*lines, ""]).encode()

    return damage


def with_line_again(content: bytes) -> bytes:
    lines = content.splitlines(keepends=True)
    return content + lines[3].replace(b",0.", b",0.1")


def cut_in_the_last_row(content: bytes) -> bytes:
    return content[:-20]


def cut_in_the_last_number(content: bytes) -> bytes:
    return content[:-2]


def cut_at_a_comma(content: bytes) -> bytes:
    return content[: content.rindex(b",") + 1]


def cut_after_a_row(content: bytes) -> bytes:
    return b"".join(content.splitlines(keepends=True)[:-1])


def without_a_column(content: bytes) -> bytes:
    return b"".join(line.replace(b",nsd,", b",", 1) for line in content.splitlines(keepends=True))


DAMAGES = {
    "a case twice": (with_line_again, "ET of case_0 twice, in lines 4 and 11"),
    "Dice 7.5": (with_cell(3, "dice", "7.5"), "dice '7.5' in line 3; expected 0 to 1"),
    "Dice inf": (with_cell(3, "dice", "inf"), "dice 'inf' in line 3; expected 0 to 1"),
    "Dice nan": (with_cell(3, "dice", "nan"), "dice 'nan' in line 3; expected a number"),
    "Dice -0.1": (with_cell(3, "dice", "-0.1"), "dice '-0.1' in line 3; expected 0 to 1"),
    "Dice 1_0": (with_cell(3, "dice", "1_0"), "dice '1_0' in line 3; expected a number"),
    "Dice in Arabic digits": (with_cell(3, "dice", "١"), "in line 3; expected a number"),
    "no Dice": (with_cell(3, "dice", ""), "no dice in line 3"),
    "HD95 -3": (with_cell(5, "hd95_mm", "-3"), "hd95_mm '-3' in line 5; expected 0 mm or more"),
    "an infinite volume": (with_cell(5, "reference_ml", "inf"), "expected 0 ml or more"),
    "half a lesion": (with_cell(5, "lesions", "0.5"), "lesions '0.5' in line 5"),
    "no region": (with_cell(4, "region", ""), "an empty case or region in line 4"),
    "other tolerance in a row": (
        with_cell(6, "nsd_tolerance_mm", "2.0"),
        "line 2 by classic at 1 mm, line 6 by classic at 2 mm",
    ),
    "other rules in a row": (with_cell(6, "rules", "lesionwise-2023"), "line 6 by lesionwise-2023"),
    "unknown rules": (with_cell(2, "rules", "fair"), "the rules 'fair' in line 2"),
    "tolerance nan": (with_cell(2, "nsd_tolerance_mm", "nan"), "nsd_tolerance_mm 'nan' in line 2"),
    "tolerance -1": (with_cell(2, "nsd_tolerance_mm", "-1"), "NSD tolerance '-1' in line 2"),
    "a field of 200 kB": (with_cell(4, "case", "x" * 200_000), "not valid CSV in line 4"),
    "a number of 200 kB": (with_cell(4, "dice", "1" * 100_000), "in line 4; expected 0 to 1"),
    "a NUL byte": (lambda content: content.replace(b"case_1", b"case\0", 1), "NUL byte in line 5"),
    "empty": (lambda content: b"", "is empty"),
    "blank": (lambda content: b"\n\n", "is empty"),
    "header alone": (lambda content: content.splitlines(keepends=True)[0], "a header but no rows"),
    "no header": (lambda content: content[content.index(b"\n") + 1 :], "lacks the columns case"),
    "a column missing": (without_a_column, "lacks the columns nsd"),
    "cut in the last row": (cut_in_the_last_row, "is truncated"),
    "cut in the last number": (cut_in_the_last_number, "is truncated"),
    "cut at a comma": (cut_at_a_comma, "is truncated"),
    "cut after a row": (cut_after_a_row, "no row for ET of case_2"),
    "a row too short": (
        lambda content: content.replace(b"\ncase_1,", b"\n", 1),
        "cells in line 5",
    ),
    "an open quote": (
        lambda content: content.replace(b"case_2", b'"case_2', 1),
        "not valid CSV in line",
    ),
    "UTF-16": (lambda content: content.decode().encode("utf-16"), "not UTF-8 text"),
    "no text": (lambda content: b"\x1f\x8b" + content, "not UTF-8 text"),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("which", [0, 1], ids=["first", "second"])
def test_a_damaged_table_is_named_with_its_line(runs, capsys, damage, words, which):
    runs[which].write_bytes(damage(runs[which].read_bytes()))
    assert compare(runs, "--keep-going") == 1
    printed = capsys.readouterr()
    assert not printed.out
    assert str(runs[which]) in printed.err
    assert words in printed.err
    assert len(printed.err) < 1000


def test_a_table_saved_with_a_mark_at_its_start_is_read(runs, evaluated):
    runs[1].write_bytes(b"\xef\xbb\xbf" + evaluated.replace(b"\n", b"\r\n"))
    assert compare(runs) == 0


@pytest.mark.parametrize("rules", ["classic", "lesionwise-2023", "brats-2026"])
def test_every_table_that_evaluate_writes_is_read(tmp_path, rules):
    truth = write_cases(tmp_path / "truth")
    prediction = write_predictions(tmp_path / "predictions")
    options = ["--rules", rules, "-np", "1"]
    assert main(["evaluate", "--ref", str(truth), "--pred", str(prediction), *options]) == 0
    assert compare((prediction, prediction)) == 0


@pytest.mark.parametrize("place", ["first.csv/below/out.csv", "first.csv"])
def test_an_output_on_or_below_a_file_is_refused(runs, tmp_path, capsys, place):
    before = contents(tmp_path)
    assert compare(runs, "-o", tmp_path / place) == 1
    assert str(tmp_path / "first.csv") in capsys.readouterr().err
    assert contents(tmp_path) == before


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux'")
def test_an_output_that_cannot_be_written_is_named_before_anything_is_printed(runs, capsys):
    assert compare(runs, "-o", Path("/proc/comparison.csv")) == 1
    printed = capsys.readouterr()
    assert "/proc cannot be written" in printed.err
    assert not printed.out


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_disk_that_fills_up_leaves_no_half_table(runs, tmp_path):
    before = contents(tmp_path)
    limit = 4096  # what the first look at the disk writes; the table has less, but for the names
    for run in runs:
        run.write_bytes(run.read_bytes().replace(b",ET,", b"," + b"ET" * 2000 + b","))
    before = contents(tmp_path)
    run = run_limited("RLIMIT_FSIZE", limit, "compare", *runs, "-o", tmp_path / "out.csv")
    assert run.returncode == 1
    assert "out.csv cannot be written" in run.stderr
    assert "Traceback" not in run.stderr
    assert contents(tmp_path) == before


def test_few_cases_are_reported_with_what_their_intervals_are_worth(runs, capsys):
    assert compare(runs) == 0
    assert "two or three cases is just their range" in capsys.readouterr().out
