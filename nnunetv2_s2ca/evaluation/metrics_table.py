"""Read a `metrics.csv` strictly: an impossible value is refused, with its line number."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nnunetv2_s2ca.core.errors import UserError, disk_errors_named
from nnunetv2_s2ca.core.text import in_few_words
from nnunetv2_s2ca.evaluation.results import DEFAULT_FOLDER, HEADER, METRICS, METRICS_FILE
from nnunetv2_s2ca.evaluation.rules import RULES

# The `repr` of a float; `float` accepts more, such as 1_0 and Infinity
_NUMBER = re.compile(r"-?\d+(\.\d+)?(e[-+]?\d+)?|inf", re.ASCII)
_COUNT = re.compile(r"\d+", re.ASCII)

_COUNTS = ("lesions", "lesions_missed", "lesions_false")
_VOLUMES = ("reference_ml", "prediction_ml")
_DISTANCES = ("hd95_mm", "lesion_hd95_mm")
# Undefined for empty regions under all rules; the other metrics only under those of 2026
_UNDEFINED = ("sensitivity", "specificity", "precision", "lesion_nsd")

# A mean of shares may exceed 1 by rounding
_ROUNDING = 1e-9


@dataclass(frozen=True)
class MetricsTable:
    """The content of a `metrics.csv`.

    Attributes:
        path: The file.
        rules: Name of the rules.
        tolerance: NSD tolerance in mm.
        values: Metrics by name for each (case, region).
    """

    path: Path
    rules: str
    tolerance: float
    values: dict[tuple[str, str], dict[str, float]]


@disk_errors_named("read")
def read_metrics(path: Path) -> MetricsTable:
    """Read a `metrics.csv`, given the file, its folder, or the folder of predictions.

    Raises:
        UserError: The file is missing, or was not written by `s2ca evaluate`: it is truncated or
            damaged, or has duplicate rows, rows by different rules, or an impossible value.
    """
    candidates = [path, path / METRICS_FILE, path / DEFAULT_FOLDER / METRICS_FILE]
    file = next((candidate for candidate in candidates if candidate.is_file()), None)
    if file is None:
        raise UserError(f"{path} has no {METRICS_FILE}; run `s2ca evaluate` on it first")
    try:
        return _table(file, _rows(file.read_bytes()))
    except ValueError as error:
        raise UserError(
            f"{file} {error}. Expected a table from `s2ca evaluate`; run it again"
        ) from error


def _rows(content: bytes) -> Iterator[tuple[int, list[str]]]:
    """The rows below the header, each with the number of its last line."""
    try:
        text = content.decode("utf-8-sig")  # spreadsheets write a byte order mark
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None
    if not text.strip():
        raise ValueError("is empty")
    if "\0" in text:
        raise ValueError(
            f"holds a NUL byte in line {text[: text.index(chr(0))].count(chr(10)) + 1}"
        )
    if not text.endswith("\n"):
        raise ValueError("is truncated: its last line has no line break")
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(lines)
        if tuple(header) != HEADER:
            raise ValueError(_about_header(header))
        for row in lines:
            if len(row) != len(HEADER):
                raise ValueError(
                    f"has {len(row)} cells in line {lines.line_num}, not {len(HEADER)}"
                )
            yield lines.line_num, row
    except csv.Error as error:
        raise ValueError(f"is not valid CSV in line {lines.line_num}: {error}") from error


def _about_header(header: list[str]) -> str:
    missing = [name for name in HEADER if name not in header]
    if missing:
        return f"lacks the columns {', '.join(missing)}"
    return "has other columns, or another order of columns"


def _table(file: Path, rows: Iterator[tuple[int, list[str]]]) -> MetricsTable:
    values: dict[tuple[str, str], dict[str, float]] = {}
    lines: dict[tuple[str, str], int] = {}
    first: tuple[int, str, float] | None = None
    for line, (case, region, rules, tolerance_cell, *cells) in rows:
        if not case or not region:
            raise ValueError(f"has an empty case or region in line {line}")
        if (case, region) in lines:
            raise ValueError(
                f"has {region} of {case} twice, in lines {lines[case, region]} and {line}"
            )
        if rules not in RULES:
            raise ValueError(
                f"names the rules {in_few_words(rules)} in line {line}; "
                f"there are {', '.join(RULES)}"
            )
        tolerance = _number(tolerance_cell, "nsd_tolerance_mm", line)
        if not 0 <= tolerance < math.inf:
            raise ValueError(f"has the NSD tolerance {in_few_words(tolerance_cell)} in line {line}")
        first = first or (line, rules, tolerance)
        if (rules, tolerance) != first[1:]:
            raise ValueError(
                f"mixes two evaluations: line {first[0]} by {first[1]} at {first[2]:g} mm, line "
                f"{line} by {rules} at {tolerance:g} mm"
            )
        lines[case, region] = line
        values[case, region] = {
            name: _metric(cell, name, rules, line)
            for name, cell in zip(METRICS, cells, strict=True)
        }
    if first is None:
        raise ValueError("has a header but no rows")
    _check_whole(values)
    return MetricsTable(file, first[1], first[2], values)


def _check_whole(values: dict[tuple[str, str], dict[str, float]]) -> None:
    """Refuse a table where a case lacks a region that another case has."""
    regions = dict.fromkeys(region for _, region in values)
    for case in dict.fromkeys(case for case, _ in values):
        missing = [region for region in regions if (case, region) not in values]
        if missing:
            raise ValueError(f"has no row for {', '.join(missing)} of {case}; may be truncated")


def _metric(cell: str, name: str, rules: str, line: int) -> float:
    if name in _COUNTS:
        if not _COUNT.fullmatch(cell):
            raise ValueError(
                f"has {name} {in_few_words(cell)} in line {line}; expected a whole number"
            )
        return float(cell)
    if not cell:
        if name in _VOLUMES or (name not in _UNDEFINED and rules != "brats-2026"):
            raise ValueError(f"has no {name} in line {line}")
        return math.nan
    value = _number(cell, name, line)
    if name in _DISTANCES:
        possible, expected = value >= 0, "0 mm or more"
    elif name in _VOLUMES:
        possible, expected = 0 <= value < math.inf, "0 ml or more"
    else:
        possible, expected = 0 <= value <= 1 + _ROUNDING, "0 to 1"
    if not possible:
        raise ValueError(f"has {name} {in_few_words(cell)} in line {line}; expected {expected}")
    return value


def _number(cell: str, name: str, line: int) -> float:
    if not _NUMBER.fullmatch(cell):
        raise ValueError(f"has {name} {in_few_words(cell)} in line {line}; expected a number")
    return float(cell)
