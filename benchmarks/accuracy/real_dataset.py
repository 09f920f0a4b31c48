"""The paper's tables on a real dataset: five folds of each trainer beside its numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from benchmarks.accuracy.published import REGIONS, TABLES, TRAINERS, PublishedRow
from benchmarks.accuracy.records import read_scores
from benchmarks.accuracy.results import MEAN, RowResult, compare_rows
from nnunetv2_s2ca.brats.regions import LabelScheme, scheme_of_dataset
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import write_text
from nnunetv2_s2ca.core.nnunet import PREPROCESSED, find_dataset
from nnunetv2_s2ca.evaluation.attempts import describe_problems
from nnunetv2_s2ca.evaluation.cohort import evaluate_cohort
from nnunetv2_s2ca.evaluation.results import write_results
from nnunetv2_s2ca.evaluation.rules import rules_named
from nnunetv2_s2ca.evaluation.statistics import Comparison
from nnunetv2_s2ca.jobs.backends import LocalBackend, SlurmBackend
from nnunetv2_s2ca.jobs.folds import FoldState, Model, fold_state
from nnunetv2_s2ca.jobs.splits import ensure_splits
from nnunetv2_s2ca.jobs.training import cross_validate
from nnunetv2_s2ca.postprocessing.out_of_fold import out_of_fold_pairs
from nnunetv2_s2ca.reporting.markdown import markdown_table
from nnunetv2_s2ca.reporting.tables import number

CONFIGURATION = "3d_fullres"
REPORT_FILE = "README.md"
RIVALS = (("nnUNetTrainer", "nnUNetTrainerS2CA"), ("nnUNetTrainerS2CA", "nnUNetTrainerS2CA_L"))


class RealDataset:
    """The cross-validations of a dataset that is converted, planned and preprocessed.

    Args:
        dataset: nnU-Net's id or name.
        results: Folder for a folder of the dataset's name with scores and report.
        say: Receives lines of progress.

    Raises:
        UserError: There is no such dataset, or it lacks one of the paper's three regions.
    """

    def __init__(self, dataset: str, results: Path, *, say: Callable[[str], None] = print):
        self.preprocessed = find_dataset(dataset, PREPROCESSED)
        self.name = self.preprocessed.name
        self.folder = results / self.name
        self.say = say
        self.scheme = _scheme_of_paper(self.preprocessed / "dataset.json")
        self.models = {trainer: Model(self.name, CONFIGURATION, trainer) for trainer in TRAINERS}

    def train(self, backend: LocalBackend | SlurmBackend, *, device: str) -> list[str]:
        """Train the missing folds; returns the names of those that failed."""
        outcome = cross_validate(
            list(self.models.values()), backend, device=device, report=self.say
        )
        return list(outcome.failed)

    def report(self) -> Path:
        """Score the models whose folds are all trained, and write the tables.

        Raises:
            UserError: Predictions do not fit the split or cannot be scored.
        """
        folds = ensure_splits(next(iter(self.models.values())))
        done = {
            trainer: sum(
                fold_state(model.fold(fold)) is FoldState.FINISHED for fold in range(folds)
            )
            for trainer, model in self.models.items()
        }
        scored = {
            trainer: self._score(model)
            for trainer, model in self.models.items()
            if done[trainer] == folds
        }
        state = {trainer: f"{number} of {folds} folds" for trainer, number in done.items()}
        write_text(self.folder / REPORT_FILE, _text(self.name, scored, state))
        return self.folder / REPORT_FILE

    def _score(self, model: Model) -> RowResult:
        """Scores of a model's out-of-fold predictions, written as `s2ca evaluate` does."""
        self.say(f"{model.trainer}: score the predictions of all folds")
        reference = self.preprocessed / "gt_segmentations"
        splits = self.preprocessed / "splits_final.json"
        pairs, _ = out_of_fold_pairs(model.folder, reference=reference, splits=splits)
        rules = rules_named("classic")
        result = evaluate_cohort(pairs, scheme=self.scheme, rules=rules)
        if result.problems:
            raise UserError(describe_problems(result.problems, "train these folds again"))
        output = self.folder / model.trainer
        output.mkdir(parents=True, exist_ok=True)
        write_results(output, result, rules=rules, reference=reference, prediction=model.folder)
        return RowResult(model.trainer, {}, {0: {"validation": read_scores(output)}})


def _scheme_of_paper(dataset_json: Path) -> LabelScheme:
    scheme = scheme_of_dataset(dataset_json)
    regions = [region.name for region in scheme.regions]
    missing = [region for region in REGIONS if region not in regions]
    if missing:
        raise UserError(
            f"{dataset_json} has the regions {', '.join(regions)}; the paper's tables need "
            f"{', '.join(missing)}, too"
        )
    return scheme


def _text(name: str, scored: Mapping[str, RowResult], state: Mapping[str, str]) -> str:
    tables = "\n\n".join(
        f"## {title}\n\n{_table(rows, scored, state)}" for title, rows in TABLES.items()
    )
    return f"""# {name}: the paper's tables

`python -m benchmarks.accuracy --dataset {name}` trains the five folds of each trainer with
nnU-Net's plans and length, and writes this page. "Here" is the mean Dice in % over the patients of
all folds, each predicted by the network that did not see it, with its 95 % bootstrap interval, by
the rules of `s2ca evaluate --rules classic`; `metrics.csv` of each trainer is beside this page.

The paper's columns are its authors' numbers (doi 10.1109/TMI.2024.3368531): BraTS 2020's 125
validation patients, scored by the challenge's portal. They are of other patients, another split and
another program around the network, so compare the order and the steps between rows, not the digits.

{tables}

## Paired differences

{_differences(scored)}
"""


def _table(
    rows: Sequence[PublishedRow], scored: Mapping[str, RowResult], state: Mapping[str, str]
) -> str:
    head = ["", *(f"paper {name}" for name in (*REGIONS, MEAN))]
    head += [f"here {name}" for name in (*REGIONS, MEAN)]
    lines = []
    for row in rows:
        published = [number(value, 2) for value in row.dice] if row.dice else [""] * 3
        published.append("" if row.mean is None else number(row.mean, 2))
        lines.append([row.title, *published, *_measured(row.trainer, scored, state)])
    return markdown_table(head, lines)


def _measured(
    trainer: str | None, scored: Mapping[str, RowResult], state: Mapping[str, str]
) -> list[str]:
    if trainer is None:
        return [""] * 4
    if trainer not in scored:
        return [f"trained: {state[trainer]}", "", "", ""]
    summaries = [scored[trainer].summary("validation", name) for name in (*REGIONS, MEAN)]
    return [
        f"{100 * found.mean:.2f} ({number(100 * found.ci_low, 1)}–{number(100 * found.ci_high, 1)})"
        for found in summaries
    ]


def _differences(scored: Mapping[str, RowResult]) -> str:
    """The mean over regions: S2CA-Net against nnU-Net and L, and each step of the ablation."""
    steps = [row.trainer for row in TABLES["Ablation"] if row.trainer]
    lines = []
    for first, second in (*RIVALS, *pairwise(steps)):
        found = None
        if first in scored and second in scored:
            found = compare_rows(scored[first], scored[second], "validation")
        cells = _difference(found.paired) if found else ["not trained", "", "", ""]
        lines.append([f"`{first}`", f"`{second}`", *cells])
    return markdown_table(["A", "B", "patients", "B − A, %", "95 % interval", "p"], lines)


def _difference(paired: Comparison) -> list[str]:
    low, high = (number(100 * end, 2) for end in (paired.ci_low, paired.ci_high))
    return [
        str(paired.cases),
        f"{100 * paired.difference:+.2f}",
        f"{low} to {high}",
        number(paired.p_value, 4),
    ]
