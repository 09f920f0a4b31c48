"""The tables of the report in Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.accuracy.experiment import Settings
from benchmarks.accuracy.results import (
    MEAN,
    REGIONS,
    Part,
    RowComparison,
    RowResult,
    compare_rows,
)
from benchmarks.accuracy.rows import ROWS, Recipe
from nnunetv2_s2ca.evaluation.statistics import Summary
from nnunetv2_s2ca.reporting.markdown import markdown_table
from nnunetv2_s2ca.reporting.tables import number

NOT_RUN = "not run"
OPTIMISERS = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}


def scores_table(results: Iterable[RowResult], part: Part) -> str:
    """Mean Dice of rows with intervals, and the cost of their training."""
    rows = []
    for result in results:
        seeds = result.seeds(part)
        training = [""] * 3
        if seeds:
            training = [_listed(seeds), _range(result.steps()), f"{result.seconds():.0f}"]
        rows.append([f"`{result.name}`", describe(result.recipe), *training, *_dice(result, part)])
    return markdown_table(["row", "recipe", "seeds", "steps", "s", *REGIONS, MEAN], rows)


def differences_table(pairs: Iterable[tuple[str, RowResult, RowResult]], part: Part) -> str:
    """Paired differences of the mean Dice: a line for each title, first row and second row."""
    rows = [
        [title, f"`{first.name}`", f"`{second.name}`", *_difference(first, second, part)]
        for title, first, second in pairs
    ]
    head = ["", "A", "B", "patients", "B − A", "95 % interval", "p", "each seed"]
    return markdown_table(head, rows)


def ablation_table(steps: Sequence[tuple[str, RowResult]]) -> str:
    """The gain of each part of the network over the row before, on test patients."""
    rows = []
    for number_, (title, result) in enumerate(steps):
        brings = [""] * 4
        if number_:
            brings = _difference(steps[number_ - 1][1], result, "test")[1:]
        rows.append([title, f"`{result.name}`", *_dice(result, "test"), *brings])
    head = ["", "row", *REGIONS, MEAN, "brings", "95 % interval", "p", "each seed"]
    return markdown_table(head, rows)


def commands_table(results: Iterable[RowResult]) -> str:
    """The command that trains, validates and tests each row."""
    rows = [f"| `{result.name}` | `{command(result)}` |" for result in results]
    return "\n".join(["| row | command |", "|---|---|", *rows])


def command(result: RowResult) -> str:
    """The command that ran a row, or would run it with seed 0."""
    row = ROWS.get(result.name)
    parts = ["python -m benchmarks.accuracy"]
    if row is not None:
        tested = not result.records or result.seeds("test")
        tables = [name for name in row.tables if name == "sweep" or tested]
        parts.append(f"--table {tables[-1] if tables else row.tables[0]}")
    parts += [f"--rows {result.name}", f"--seeds {_listed(result.records or [0], ' ')}"]
    if result.records:
        conditions = next(iter(result.records.values()))["conditions"]
        default = Settings()
        common = row is not None and row.steps is None and row.seconds_of is None
        if common and conditions["steps"] != default.steps:
            parts.append(f"--steps {conditions['steps']}")
        for option in ("patients", "test"):
            if conditions["patients"][option] != getattr(default, option):
                parts.append(f"--{option} {conditions['patients'][option]}")
    return " ".join(parts)


def describe(recipe: Mapping[str, Any]) -> str:
    """A recipe in a few words: its trainer, and differences from the trainer's defaults."""
    words = [recipe["trainer"]]
    if recipe["optimiser"] is not None:
        words.append(f"{OPTIMISERS[recipe['optimiser']]} {recipe['rate']:g}")
        words.append(recipe["schedule"])
    # JSON turns tuples into lists
    recipe, plain = (
        json.loads(json.dumps(fields))
        for fields in (dict(recipe), asdict(Recipe(recipe["trainer"])))
    )
    words += [
        f"{name.replace('_', ' ')} {value}"
        for name, value in recipe.items()
        if name not in ("optimiser", "rate", "schedule") and value != plain.get(name)
    ]
    return ", ".join(words)


def sentence(first: RowResult, second: RowResult, part: Part) -> str:
    """The paired difference of two rows in words."""
    found = compare_rows(first, second, part)
    if found is None:
        missing = " and ".join(f"`{r.name}`" for r in (first, second) if not r.seeds(part))
        return f"not measured yet: {missing or 'the rows have no seed in common'}."
    paired = found.paired
    excludes = paired.ci_low > 0 or paired.ci_high < 0
    how = "above" if paired.difference >= 0 else "below"
    return (
        f"`{second.name}` is {abs(paired.difference):.3f} {how} `{first.name}` (95 % interval "
        f"{_signed(paired.ci_low)} to {_signed(paired.ci_high)}, p {_p(paired.p_value, '= ')}, "
        f"{paired.cases} patients, {_seeds(found)}). The interval "
        f"{'excludes zero' if excludes else 'does not exclude zero'}."
    )


def _seeds(found: RowComparison) -> str:
    return "one seed" if len(found.seeds) == 1 else f"{len(found.seeds)} seeds"


def _dice(result: RowResult, part: Part) -> list[str]:
    """Mean Dice of each region and over regions, or that the row was not run."""
    if not result.seeds(part):
        return [NOT_RUN, "", "", ""]
    return [_with_interval(result.summary(part, region)) for region in (*REGIONS, MEAN)]


def _difference(first: RowResult, second: RowResult, part: Part) -> list[str]:
    """Patients, difference, interval, p, and the difference of each seed."""
    found = compare_rows(first, second, part)
    if found is None:
        return ["", NOT_RUN, "", "", ""]
    paired = found.paired
    return [
        str(paired.cases),
        _signed(paired.difference),
        f"{_signed(paired.ci_low)} to {_signed(paired.ci_high)}",
        _p(paired.p_value),
        _listed(map(_signed, found.of_seed.values())),
    ]


def _with_interval(summary: Summary) -> str:
    low, high = (number(end, 3) for end in (summary.ci_low, summary.ci_high))
    return f"{number(summary.mean, 3)} ({low}–{high})"


def _p(value: float, sign: str = "") -> str:
    return "< 0.0001" if value < 1e-4 else sign + number(value, 4)


def _signed(value: float) -> str:
    text = number(value, 3)
    return f"+{text}" if value > 0 else text.replace("-", "−")


def _listed(values: Iterable[object], between: str = ", ") -> str:
    return between.join(map(str, values))


def _range(steps: Sequence[int]) -> str:
    """The range of steps; one number if all seeds took the same."""
    return _listed(sorted({min(steps), max(steps)}), "–")
