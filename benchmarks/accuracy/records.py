"""The record of a row trained with one seed: one JSON file, committed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from benchmarks.accuracy.rows import Recipe, Row
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import read_json, write_text
from nnunetv2_s2ca.evaluation.metrics_table import read_metrics

METRICS = ("dice", "hd95_mm")
Scores = dict[str, dict[str, dict[str, float]]]


class Records:
    """The records in a folder, one file for each row and seed.

    Args:
        folder: Created with the first record.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def path(self, name: str, seed: int) -> Path:
        """The file of a record."""
        return self.folder / f"{name}.seed{seed}.json"

    def read(self, name: str, seed: int) -> dict[str, Any] | None:
        """A record, or None if there is none yet."""
        path = self.path(name, seed)
        return read_json(path) if path.exists() else None

    def all(self) -> dict[str, dict[int, dict[str, Any]]]:
        """Every record in the folder, by the row's name and the seed."""
        found: dict[str, dict[int, dict[str, Any]]] = {}
        for path in sorted(self.folder.glob("*.json")):
            if match := re.fullmatch(r"(.+)\.seed(\d+)", path.stem):
                found.setdefault(match[1], {})[int(match[2])] = read_json(path)
        return found

    def write(self, name: str, seed: int, record: dict[str, Any]) -> None:
        """Write a record."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # a line for each entry: the losses of all steps would take hundreds
        lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(record[key])}" for key in record)
        write_text(self.path(name, seed), f"{{\n{lines}\n}}\n")

    def finished(self, name: str, seed: int, conditions: dict[str, Any]) -> dict[str, Any] | None:
        """The record of a row if it was measured under these conditions.

        Raises:
            UserError: It was measured under others.
        """
        record = self.read(name, seed)
        if record is None:
            return None
        # JSON turns tuples into lists
        asked = json.loads(json.dumps(conditions))
        measured = record["conditions"]
        # options that are newer than the record had no effect on it
        default = json.loads(json.dumps(Row("", Recipe("")).as_json()))
        recipe = default["recipe"] | measured["row"]["recipe"]
        measured["row"] = default | measured["row"] | {"recipe": recipe}
        changed = [key for key in asked if measured.get(key) != asked[key]]
        if changed:
            raise UserError(
                f"{self.path(name, seed)} was measured with other {' and '.join(changed)}; delete "
                "it to measure the row again, or give the row another name"
            )
        return record


def read_scores(metrics: Path) -> Scores:
    """Case → region → metric, from the folder that `s2ca evaluate` wrote."""
    scores: Scores = {}
    for (case, region), values in read_metrics(metrics).values.items():
        scores.setdefault(case, {})[region] = {name: round(values[name], 4) for name in METRICS}
    return scores
