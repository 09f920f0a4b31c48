"""The report of one or several runs, as one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.folds import fold_folders
from nnunetv2_s2ca.core.text import printable
from nnunetv2_s2ca.evaluation.results import METRICS
from nnunetv2_s2ca.reporting import agreement_plots, plots
from nnunetv2_s2ca.reporting.gallery import draw_gallery, draw_patient
from nnunetv2_s2ca.reporting.learning import Curve, read_curve
from nnunetv2_s2ca.reporting.page import asset, render
from nnunetv2_s2ca.reporting.patient import Patient
from nnunetv2_s2ca.reporting.probabilities import calibration_of, uncertainty_of
from nnunetv2_s2ca.reporting.provenance import versions
from nnunetv2_s2ca.reporting.report_tables import Content, facts, headline, lead, lesions, summaries
from nnunetv2_s2ca.reporting.runs import Run
from nnunetv2_s2ca.reporting.scoring import (
    comparison_of,
    ensure_scores,
    mean_dice,
    regions_of,
    summaries_of,
)

# metric, heading, decimal places
SUMMARY_COLUMNS = (
    ("dice", "Dice", 4),
    ("hd95_mm", "HD95, mm", 2),
    ("nsd", "NSD", 4),
    ("sensitivity", "Sensitivity", 4),
    ("precision", "Precision", 4),
    ("lesion_dice", "Lesion Dice", 4),
    ("lesion_hd95_mm", "Lesion HD95, mm", 2),
)
PICTURES = 10  # of the best and of the worst cases
STATS = ("cases", "infinite", "mean", "median", "std", "ci_low", "ci_high")
COMPARISON_STATS = (
    *(("cases", 0), ("left_out", 0), ("mean_first", 4), ("mean_second", 4), ("difference", 4)),
    *(("ci_low", 4), ("ci_high", 4), ("p_value", 4), ("wins", 0), ("losses", 0), ("ties", 0)),
)


def report_html(
    runs: Sequence[Run],
    patients: Sequence[Patient] = (),
    *,
    title: str,
    pictures: int = PICTURES,
    processes: int | None = None,
) -> str:
    """The page for some runs.

    Args:
        runs: the runs, with different names.
        patients: results of `s2ca segment`.
        title: heading.
        pictures: number of best and of worst cases to draw.
        processes: worker processes; all cores if None.
    """
    content = Content(title, runs, patients)
    for run in runs:
        ensure_scores(run, processes=processes)
        content.summaries[run.name] = summaries_of(run, METRICS)
        content.curves[run.name] = _curves_of(run)
        content.galleries[run.name] = draw_gallery(
            run, prefix=f"r{len(content.galleries)}", pictures=pictures, processes=processes
        )
    for patient in patients:
        draw_patient(patient)
    groups = _figure_groups(content, processes=processes)
    comparisons = _comparisons(content)
    page = {
        "title": title,
        "lead": lead(content),
        "headline": headline(content),
        "several": len(runs) > 1,
        "patients": patients,
        "metrics": SUMMARY_COLUMNS,
        "stats": STATS,
        "comparison_stats": COMPARISON_STATS,
        "summaries": summaries(content),
        "intervals": plots.interval_figure(
            {name: found for name, found in content.summaries.items() if found}
        )
        if any(content.summaries.values())
        else None,
        "comparisons": comparisons,
        "figure_groups": groups,
        "lesions": lesions(content),
        "galleries": [
            gallery for gallery in content.galleries.values() if gallery.rows or gallery.pictures
        ],
        "outlined": _outlined(content),
        "facts": [facts(run, content.curves[run.name]) for run in runs],
        "versions": versions(),
        "about": "Made by nnunetv2-s2ca.",
    }
    page["missing"] = _missing(runs, patients)
    page["contents"] = _contents(page)
    return render(
        "report.html.jinja",
        {"page": page},
        styles=(asset("base.css"), asset("report.css")),
        script=asset("report.js"),
    )


def _curves_of(run: Run) -> dict[int, Curve]:
    found = {}
    for fold, folder in (fold_folders(run.model) if run.model is not None else {}).items():
        try:
            found[fold] = read_curve(folder)
        except UserError as error:
            run.missing.append(f"Learning curve of fold {fold}: {error}.")
    return found


def _figure_groups(content: Content, *, processes: int | None) -> list[dict[str, Any]]:
    titles = {
        "distribution": "Every case",
        "learning": "Learning curves",
        "volumes": "Volumes",
        "uncertainty": "Uncertainty",
        "calibration": "Calibration",
    }
    groups: dict[str, list[tuple[str, list[plots.Figure]]]] = {id: [] for id in titles}
    for run in content.runs:
        links = content.galleries[run.name].links
        if content.curves[run.name]:
            groups["learning"].append((run.name, plots.learning_figures(content.curves[run.name])))
        if run.scores is not None:
            folds = {case.case: case.fold for case in run.cases.values()}
            strips = [
                plots.strip_figure(run.scores, metric, folds=folds, links=links)
                for metric in plots.SHOWN_METRICS
            ]
            groups["distribution"].append((run.name, strips))
            agreement = [
                agreement_plots.bland_altman_figure(run.scores, region, links)
                for region in regions_of(run.scores)
            ]
            volumes = [agreement_plots.volume_figure(run.scores, links), *agreement]
            groups["volumes"].append((run.name, [figure for figure in volumes if figure]))
            uncertainty = uncertainty_of(run)
            if uncertainty:
                figure = plots.uncertainty_figure(uncertainty, mean_dice(run.scores), links)
                groups["uncertainty"].append((run.name, [figure]))
        calibration = calibration_of(run, processes=processes)
        if calibration is not None:
            groups["calibration"].append((run.name, [calibration]))
    return [
        {"id": id, "title": title, "runs": groups[id]} for id, title in titles.items() if groups[id]
    ]


def _comparisons(content: Content) -> list[dict[str, Any]]:
    """Each further run against the first."""
    found = []
    for number, other in enumerate(content.runs[1:]):
        first = content.runs[0]
        regions, problems = comparison_of(first, other)
        other.missing += problems
        if not regions or first.scores is None or other.scores is None:
            continue
        links = content.galleries[other.name].links
        names = (first.name, other.name)
        found.append(
            {
                "number": number,
                "first": first.name,
                "second": other.name,
                "regions": {
                    region: {metric: vars(result) for metric, result in metrics.items()}
                    for region, metrics in regions.items()
                },
                "figure": agreement_plots.difference_figure(
                    first.scores, other.scores, names, links
                ),
            }
        )
    return found


def _outlined(content: Content) -> list[str]:
    """Names of the outlined regions, by their colour."""
    names: dict[int, str] = {}
    for gallery in content.galleries.values():
        for picture in gallery.pictures:
            for view in picture["views"]:
                for _, number, region, _ in view["outlines"]:
                    names.setdefault(number, region)
    return [names.get(number, "") for number in range(max(names, default=-1) + 1)]


def _missing(runs: Sequence[Run], patients: Sequence[Patient]) -> list[str]:
    several = len(runs) + len(patients) > 1
    found = [(run.name, line) for run in runs for line in run.missing]
    found += [(patient.name, line) for patient in patients for line in patient.missing]
    lines = [printable(f"{name}: {line}" if several else line) for name, line in found]
    return list(dict.fromkeys(line.replace("..", ".") for line in lines))


def _contents(page: dict[str, Any]) -> list[tuple[str, str]]:
    found = [
        ("missing", "What is missing", page["missing"]),
        ("patients", "Patients", page["patients"]),
        ("summary", "Summary", page["summaries"]),
        ("comparison", "Comparison", page["comparisons"]),
        *((group["id"], group["title"], True) for group in page["figure_groups"]),
        ("lesions", "Lesions", page["lesions"]),
        ("cases", "Cases", page["galleries"]),
        ("run", "What was run", True),
    ]
    return [(id, title) for id, title, shown in found if shown]
