"""One HTML page that shows the results of runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import check_output_folder, write_text
from nnunetv2_s2ca.reporting.patient import Patient, read_patients
from nnunetv2_s2ca.reporting.report_page import PICTURES, report_html
from nnunetv2_s2ca.reporting.runs import Run, find_run, name_runs


@dataclass(frozen=True)
class Report:
    """A page about one or several runs.

    Attributes:
        path: The HTML file.
        missing: What the page could not show, a sentence each.
    """

    path: Path
    missing: list[str]

    def __str__(self) -> str:
        return f"report: {self.path}"


def report(
    runs: str | PathLike[str] | Sequence[str | PathLike[str]],
    output: str | PathLike[str],
    *,
    reference: str | PathLike[str] | None = None,
    images: str | PathLike[str] | None = None,
    dataset_json: str | PathLike[str] | None = None,
    title: str | None = None,
    pictures: int = PICTURES,
    overwrite: bool = False,
    processes: int | None = None,
) -> Report:
    """Write one self-contained HTML page about runs: tables, plots, and pictures of cases.

    What is missing or damaged is left out, and the page says so. Scores come from `metrics.csv`;
    a run that has none is scored by the classic rules if its truth is found.

    Args:
        runs: One or several of: a trained model's folder, a folder of predictions, the results of
            `evaluate`, or the JSON file of `segment`. Further runs are compared with the first.
        output: HTML file to write.
        reference: Folder with the true segmentations; looked for if None.
        images: Folder with the images; looked for if None.
        dataset_json: nnU-Net's file that defines the regions; looked for if None.
        title: Heading of the page.
        pictures: Number of best and of worst cases to show.
        overwrite: Replace an earlier page.
        processes: Worker processes; all cores if None.

    Raises:
        UserError: A run does not exist or holds nothing to show, or `output` exists or cannot be
            written.
    """
    paths = [Path(runs)] if isinstance(runs, (str, PathLike)) else [Path(run) for run in runs]
    target = Path(output)
    if not paths:
        raise UserError("`runs` is empty; name at least one run")
    if pictures < 0:
        raise UserError(f"`pictures` is {pictures}; expected 0 or more")
    check_page(target, overwrite=overwrite)
    found: list[Run] = []
    patients: list[Patient] = []
    for path in paths:
        if path.suffix.lower() == ".json":
            patients += read_patients(path)
        else:
            found.append(
                find_run(
                    path,
                    reference=_path(reference),
                    images=_path(images),
                    dataset_json=_path(dataset_json),
                )
            )
    name_runs(found)
    html = report_html(
        found,
        patients,
        title=title or _title([run.name for run in found], [p.name for p in patients]),
        pictures=pictures,
        processes=processes,
    )
    write_text(target, html)
    missing = [line for run in found for line in run.missing]
    missing += [line for patient in patients for line in patient.missing]
    return Report(target, missing)


def check_page(output: Path, *, overwrite: bool) -> None:
    """Refuse an output before any work is done.

    Raises:
        UserError: It exists without `overwrite`, is a folder, or cannot be written.
    """
    if output.is_dir():
        raise UserError(f"{output} is a folder; expected a file such as {output / 'report.html'}")
    if output.exists() and not overwrite:
        raise UserError(
            f"{output} exists; pass `overwrite=True` to replace it, or name another file"
        )
    check_output_folder(output.parent)


def _path(path: str | PathLike[str] | None) -> Path | None:
    return None if path is None else Path(path)


def _title(runs: Sequence[str], patients: Sequence[str]) -> str:
    names = [*runs, *patients]
    if len(names) == 1:
        return names[0]
    return " and ".join(names) if len(names) == 2 else f"{names[0]} and {len(names) - 1} more"
