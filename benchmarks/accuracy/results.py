"""The records of the rows as numbers: Dice of each patient, averaged over seeds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from benchmarks.accuracy.records import Records
from benchmarks.accuracy.rows import ROWS
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.evaluation.statistics import Comparison, Summary, compare, summarise

REGIONS = ("WT", "TC", "ET")
MEAN = "mean"  # of the three regions, for each patient

Part = Literal["validation", "test"]


@dataclass(frozen=True)
class CurvePoint:
    """A point of a learning curve, averaged over seeds: pseudo-Dice of nnU-Net's validation."""

    step: float
    seconds: float
    dice: float


@dataclass(frozen=True)
class RowResult:
    """The records of a row.

    Attributes:
        name: Name of the row.
        recipe: Recipe in the records, or in `rows` if there are none.
        records: Records by seed; empty if the row was not run.
    """

    name: str
    recipe: Mapping[str, Any]
    records: Mapping[int, Mapping[str, Any]]

    def seeds(self, part: Part) -> list[int]:
        """The seeds whose models have predicted the validation or the test patients."""
        return sorted(seed for seed, record in self.records.items() if record[part])

    def dice(self, part: Part, region: str, seeds: Iterable[int] | None = None) -> dict[str, float]:
        """Dice of each patient, averaged over the seeds that predicted the patient.

        Args:
            part: Validation or test patients.
            region: WT, TC, ET, or `MEAN` of the three.
            seeds: Seeds to average over; all if None.
        """
        regions = REGIONS if region == MEAN else (region,)
        values: dict[str, list[float]] = {}
        for seed in self.seeds(part) if seeds is None else seeds:
            for case, scores in self.records[seed][part].items():
                dice = np.mean([scores[name]["dice"] for name in regions])
                values.setdefault(case, []).append(float(dice))
        return {case: float(np.mean(of_seeds)) for case, of_seeds in sorted(values.items())}

    def summary(self, part: Part, region: str) -> Summary:
        """Mean Dice over patients with its 95 % bootstrap interval."""
        return summarise(list(self.dice(part, region).values()))

    def steps(self) -> list[int]:
        """The steps of each seed's training."""
        return [record["conditions"]["steps"] for _, record in sorted(self.records.items())]

    def seconds(self) -> float:
        """Processor seconds of a training, averaged over seeds."""
        return float(np.mean([record["seconds"] for record in self.records.values()]))

    def curve(self) -> list[CurvePoint]:
        """The learning curve, averaged over seeds point by point."""
        curves = [record["curve"]["validation"] for record in self.records.values()]
        return [
            CurvePoint(
                step=float(np.mean([point["step"] for point in points])),
                seconds=float(np.mean([point["seconds"] for point in points])),
                dice=float(np.mean([point["dice"] for point in points])),
            )
            for points in zip(*curves, strict=False)
        ]


@dataclass(frozen=True)
class RowComparison:
    """Two rows, patient by patient, over the seeds that both have.

    Attributes:
        seeds: Seeds that both rows have.
        paired: Comparison of each patient's mean Dice over regions and seeds.
        of_seed: Mean difference for each seed.
    """

    seeds: list[int]
    paired: Comparison
    of_seed: dict[int, float]


def compare_rows(first: RowResult, second: RowResult, part: Part) -> RowComparison | None:
    """Second minus first, as `s2ca compare` does it; None if they have no seed in common."""
    seeds = sorted(set(first.seeds(part)) & set(second.seeds(part)))
    if not seeds:
        return None
    of_seed = {seed: _compare(first, second, part, [seed]).difference for seed in seeds}
    return RowComparison(seeds, _compare(first, second, part, seeds), of_seed)


def _compare(first: RowResult, second: RowResult, part: Part, seeds: list[int]) -> Comparison:
    one, other = first.dice(part, MEAN, seeds), second.dice(part, MEAN, seeds)
    if one.keys() != other.keys():
        raise UserError(
            f"the records of {first.name} and {second.name} are not of the same {part} patients; "
            "delete the older ones and run their rows again"
        )
    return compare(list(one.values()), list(other.values()), higher_is_better=True)


def read_results(records: Records) -> dict[str, RowResult]:
    """A result for each row of the experiment, and for recorded rows that no longer exist.

    Raises:
        UserError: Records are of different patients.
    """
    recorded = records.all()
    first: tuple[str, Any] | None = None
    for name, seeds in recorded.items():
        for seed, record in seeds.items():
            patients = record["conditions"]["patients"]
            first = first or (f"{name} with seed {seed}", patients)
            if patients != first[1]:
                raise UserError(
                    f"{records.folder} mixes patients: {first[0]} was measured on others than "
                    f"{name} with seed {seed}; give another --results folder to one of them"
                )
    results = {}
    for name in dict.fromkeys([*ROWS, *recorded]):
        own = recorded.get(name, {})
        if own:
            recipe = next(iter(own.values()))["conditions"]["row"]["recipe"]
        else:
            recipe = json.loads(json.dumps(asdict(ROWS[name].recipe)))
        results[name] = RowResult(name, recipe, own)
    return results
