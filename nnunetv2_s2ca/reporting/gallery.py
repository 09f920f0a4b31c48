"""The cases of a run: a table of all, and pictures of the best and the worst."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.evaluation.attempts import Problem, attempt_cases
from nnunetv2_s2ca.reporting.case_pictures import CasePictures, Slice, draw_case
from nnunetv2_s2ca.reporting.patient import Patient
from nnunetv2_s2ca.reporting.runs import Run
from nnunetv2_s2ca.reporting.scoring import mean_dice, regions_of

# the letter at the left edge of a picture, in radiological view
SIDES = {"axial": "R", "coronal": "R", "sagittal": "A"}


@dataclass(frozen=True)
class Gallery:
    """The cases of a run.

    Attributes:
        name: the run's name.
        headings: of the table.
        rows: one for each scored case, worst first.
        pictures: of the worst and the best cases.
        links: case → id of its picture on the page.
    """

    name: str
    headings: Sequence[str] = ()
    rows: Sequence[Mapping[str, Any]] = ()
    pictures: Sequence[Mapping[str, Any]] = ()
    links: Mapping[str, str] = field(default_factory=dict)


def draw_gallery(run: Run, *, prefix: str, pictures: int, processes: int | None) -> Gallery:
    """Draw the best and the worst cases; those without scores come in the order of their names.

    Args:
        run: the run.
        prefix: start of the ids on the page.
        pictures: number of best and of worst cases.
        processes: worker processes; all cores if None.
    """
    scores = mean_dice(run.scores) if run.scores is not None else {}
    known = [case for case in scores if not math.isnan(scores[case])]
    order = sorted(known, key=lambda case: (scores[case], case))
    order += sorted(set(scores) - set(known))
    ranked = order or sorted(run.cases)
    drawable = [case for case in ranked if run.cases[case].prediction or run.cases[case].truth]
    if len(drawable) > 2 * pictures:
        drawable = drawable[:pictures] + drawable[len(drawable) - pictures :]
    drawn = _draw(run, drawable, processes=processes)
    links = {case: f"{prefix}-case{ranked.index(case) + 1}" for case in drawn}
    regions = regions_of(run.scores) if run.scores is not None else []
    rows = []
    for case in order:
        values = {region: run.scores.values[case, region] for region in regions}  # type: ignore[union-attr]
        fold = run.cases[case].fold
        rows.append(
            {
                "case": case,
                "link": links.get(case),
                "fold": "–" if fold is None else fold,
                "mean": scores[case],
                "cells": [
                    *((region, "dice", values[region]["dice"], 4) for region in regions),
                    *((region, "hd95_mm", values[region]["hd95_mm"], 2) for region in regions),
                ],
            }
        )
    headings = [
        *("Case", "Fold", "mean Dice"),
        *(f"Dice {region}" for region in regions),
        *(f"HD95 {region}, mm" for region in regions),
    ]
    shown = [
        {
            "id": links[case],
            "case": case,
            "rank": _rank(ranked.index(case), len(order), scores.get(case)),
            "regions": {region: run.scores.values[case, region] for region in regions}  # type: ignore[union-attr]
            if case in scores
            else {},
            "problems": found.problems,
            "views": _views(found),
        }
        for case, found in drawn.items()
    ]
    return Gallery(run.name, headings, rows, shown, links)


def draw_patient(patient: Patient) -> None:
    """Draw the segmentation of a patient who has no truth."""
    if patient.files.prediction is not None:
        drawn = draw_case(patient.files, scheme=None)
        patient.views = _views(drawn)
        patient.missing += [line for line in drawn.problems if "truth" not in line]


def _draw(run: Run, cases: Sequence[str], *, processes: int | None) -> dict[str, CasePictures]:
    files = [run.cases[case] for case in cases]
    try:
        outcomes = attempt_cases(
            partial(draw_case, scheme=run.scheme), files, processes=processes, title="draw"
        )
    except UserError as error:
        run.missing.append(f"Pictures: {error}.")
        return {}
    drawn = {}
    for case, outcome in zip(cases, outcomes, strict=True):
        if isinstance(outcome, Problem):
            run.missing.append(f"Picture of {case}: {outcome.text}.")
            continue
        run.missing += [f"{case}: {line}" for line in outcome.problems if "missing" not in line]
        drawn[case] = outcome
    return drawn


def _views(found: CasePictures) -> list[dict[str, Any]]:
    """The pictures of a case, a row for each sequence."""
    sequences = list(dict.fromkeys(name for part in found.slices for name in part.images))
    return [
        _view(found.case, part, sequence) for sequence in sequences or [""] for part in found.slices
    ]


def _view(case: str, part: Slice, sequence: str) -> dict[str, Any]:
    what = [
        kind for kind in ("truth", "prediction") if any(line[0] == kind for line in part.outlines)
    ]
    shown = " and ".join(what) or "no tumour"
    place = f"{part.plane} slice {part.number} of {part.count}"
    return {
        "image": part.images.get(sequence),
        "width": part.width,
        "height": part.height,
        "outlines": part.outlines,
        "side": SIDES[part.plane],
        "alt": f"{case}, {sequence or 'no image'}, {place}, with the outlines of {shown}",
        "caption": f"{sequence}, {part.plane} {part.number}/{part.count}".lstrip(", "),
    }


def _rank(place: int, count: int, score: float | None) -> str:
    if score is None or not count:
        return "not scored"
    if math.isnan(score):
        return "no Dice under these rules"
    return f"place {count - place} of {count}, mean Dice {score:.4f}"
