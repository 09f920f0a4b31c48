"""Finding what belongs to a run: its predictions, scores, truth, images and trained model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnunetv2_s2ca.brats.regions import LabelScheme, Region, scheme_of_dataset
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import read_json
from nnunetv2_s2ca.core.folds import fold_folders
from nnunetv2_s2ca.core.nifti import FILE_ENDINGS
from nnunetv2_s2ca.evaluation.metrics_table import MetricsTable, read_metrics
from nnunetv2_s2ca.evaluation.results import DEFAULT_FOLDER, METRICS_FILE, SUMMARY_FILE
from nnunetv2_s2ca.reporting.case_files import (
    CaseFiles,
    images_beside,
    images_of,
    segmentations_of,
)
from nnunetv2_s2ca.reporting.run_folders import (
    existing,
    has_images,
    inputs_of,
    model_around,
    truth_of,
)


@dataclass
class Run:
    """A run, as far as its files tell.

    Attributes:
        path: what the user named.
        name: short name, unique in a report.
        model: folder of the trained model, with `fold_0` and so on.
        predictions: the folders of its predictions.
        scores: its scores, from `metrics.csv`, or computed.
        computed: whether the scores were computed for this report.
        summary: content of `summary.json`.
        cases: its cases.
        scheme: regions and labels of its segmentations.
        missing: a sentence for each thing that could not be shown.
    """

    path: Path
    name: str = ""
    model: Path | None = None
    predictions: list[Path] = field(default_factory=list)
    scores: MetricsTable | None = None
    computed: bool = False
    summary: dict[str, Any] = field(default_factory=dict)
    cases: dict[str, CaseFiles] = field(default_factory=dict)
    scheme: LabelScheme | None = None
    missing: list[str] = field(default_factory=list)

    @property
    def folds(self) -> list[int]:
        """The folds of its cases."""
        return sorted({case.fold for case in self.cases.values() if case.fold is not None})


def find_run(
    path: Path,
    *,
    reference: Path | None = None,
    images: Path | None = None,
    dataset_json: Path | None = None,
) -> Run:
    """Find what belongs to a run.

    Args:
        path: a trained model's folder, a folder of predictions, the results of `s2ca evaluate`, or
            their `metrics.csv`.
        reference: folder of the true segmentations; looked for if None.
        images: folder of the images; looked for if None.
        dataset_json: nnU-Net's file with the regions; looked for if None.

    Raises:
        UserError: `path` does not exist, or is nothing of these.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist; expected a folder of predictions, a trained model")
    run = Run(path)
    folder = path if path.is_dir() else path.parent
    folds = fold_folders(folder)
    if folds:
        run.model = folder
        run.predictions = [place / "validation" for place in folds.values()]
    elif has_images(folder):
        run.predictions = [folder]
    _read_scores(run, path)
    if not run.predictions and run.summary.get("prediction"):
        run.predictions = existing([run.summary["prediction"], folder, folder.parent])
    if run.model is None and run.predictions:
        run.model = model_around(run.predictions[0])
    if run.scores is None and not run.predictions:
        raise UserError(
            f"{path} holds neither predictions nor fold_0, fold_1 … nor {METRICS_FILE}; expected a "
            "folder of predictions, a trained model, or the results of `s2ca evaluate`"
        )
    truth = reference or truth_of(run.summary, run.model, run.predictions)
    _find_cases(run, truth=truth, images=images)
    run.scheme = _scheme_of(run, truth, dataset_json)
    return run


def name_runs(runs: Sequence[Run]) -> None:
    """Give each run the shortest end of its path that no other run has."""
    for run in runs:
        parts = run.path.resolve().parts
        if parts[-1] == METRICS_FILE:
            parts = parts[:-1]
        if parts[-1] == DEFAULT_FOLDER:
            parts = parts[:-1]
        run.name = parts[-1]
        for length in range(1, len(parts) + 1):
            run.name = "/".join(parts[-length:])
            others = [other.path.resolve().parts for other in runs if other is not run]
            if not any(parts[-length:] == _tail(other, length) for other in others):
                break


def _tail(parts: tuple[str, ...], length: int) -> tuple[str, ...]:
    while parts[-1] in (METRICS_FILE, DEFAULT_FOLDER):
        parts = parts[:-1]
    return parts[-length:]


def _read_scores(run: Run, path: Path) -> None:
    places = [path, path / METRICS_FILE, path / DEFAULT_FOLDER / METRICS_FILE]
    places += sorted(path.glob(f"crossval_results_folds_*/{DEFAULT_FOLDER}/{METRICS_FILE}"))
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        return
    try:
        run.scores = read_metrics(file)
    except UserError as error:
        run.missing.append(f"Scores: {error}.")
    summary = file.with_name(SUMMARY_FILE)
    try:
        run.summary = read_json(summary)
    except UserError as error:
        run.missing.append(
            f"Summary of the scores: {error}; it was computed anew from {METRICS_FILE}."
        )


def _find_cases(run: Run, *, truth: Path | None, images: Path | None) -> None:
    truths = segmentations_of(truth, run.missing, "Truth")
    if truth is None:
        run.missing.append("Truth: the true segmentations were not found; name their folder.")
    predictions: dict[str, Path] = {}
    folds: dict[str, int] = {}
    held_out = fold_folders(run.model) if run.model is not None else {}
    for folder in run.predictions:
        predictions |= segmentations_of(folder, run.missing, "Predictions")
    for fold, folder in held_out.items():
        for path in (folder / "validation").glob("*"):
            for ending in FILE_ENDINGS:
                if path.name.endswith(ending):
                    folds[path.name.removesuffix(ending)] = fold
    names = set(predictions)
    if run.scores is not None:
        names |= {case for case, _ in run.scores.values}
        lost = sorted({case for case, _ in run.scores.values} - predictions.keys())
        if lost and run.predictions:
            run.missing.append(
                f"Predictions: {len(lost)} scored cases have no file, first {lost[0]}."
            )
        if not run.predictions:
            run.missing.append("Predictions: the folder was not found, so there are no pictures.")
    elif truths:
        unscored = sorted(predictions.keys() - truths.keys())
        if unscored:
            run.missing.append(
                f"Truth: {len(unscored)} predictions have none, first {unscored[0]}."
            )
    pictures = images or images_beside(truth) or inputs_of(run.model, run.predictions) or truth
    shown = {case: truths.get(case) for case in sorted(names)}
    sequences = images_of(pictures, shown)
    if names and not sequences:
        run.missing.append(
            "Images: none were found, so outlines are drawn on black; name their folder."
        )
    for case in sorted(names):
        prediction = predictions.get(case)
        run.cases[case] = CaseFiles(
            case,
            prediction=prediction,
            truth=truths.get(case),
            images=sequences.get(case, {}),
            probabilities=_beside(prediction, case, ".npz"),
            fold=folds.get(case),
        )


def _scheme_of(run: Run, truth: Path | None, dataset_json: Path | None) -> LabelScheme | None:
    labels = run.summary.get("labels")
    if isinstance(labels, dict) and labels:
        try:
            regions = tuple(Region(name, tuple(map(int, of))) for name, of in labels.items())
            return LabelScheme(
                regions, frozenset({0}.union(*(region.labels for region in regions)))
            )
        except (TypeError, ValueError):
            run.missing.append(f"Regions: `labels` in {SUMMARY_FILE} are damaged.")
    folders = [run.model, *run.predictions, truth]
    places = [dataset_json] if dataset_json else []
    places += [
        place / "dataset.json" for folder in folders if folder for place in (folder, folder.parent)
    ]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        run.missing.append(
            "Regions: no dataset.json was found, so outlines are those of single labels."
        )
        return None
    try:
        return scheme_of_dataset(found)
    except UserError as error:
        run.missing.append(f"Regions: {error}.")
        return None


def _beside(prediction: Path | None, case: str, ending: str) -> Path | None:
    if prediction is None:
        return None
    path = prediction.with_name(f"{case}{ending}")
    return path if path.is_file() else None
