"""`python -m benchmarks.accuracy`: train and test rows, and write the report."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.accuracy.experiment import REPOSITORY, Experiment, Settings
from benchmarks.accuracy.real_dataset import RealDataset
from benchmarks.accuracy.real_patients import predict_real_patients
from benchmarks.accuracy.records import Records
from benchmarks.accuracy.report import write_report
from benchmarks.accuracy.report_tables import describe
from benchmarks.accuracy.rows import TABLES, chosen_rows
from benchmarks.accuracy.running import Runner
from nnunetv2_s2ca.api.jobs import available_device
from nnunetv2_s2ca.commands.backend import add_backend, chosen_backend
from nnunetv2_s2ca.core.errors import UserError

RESULTS = REPOSITORY / "results" / "accuracy"


def main(arguments: list[str] | None = None) -> int:
    """Run what the arguments say; returns the exit code."""
    given = _parse(arguments)
    try:
        if given.list:
            for row in chosen_rows(given.rows, given.table):
                print(f"{row.name:24} {', '.join(row.tables):14} {describe(asdict(row.recipe))}")
        elif given.report:
            print(write_report(given.results, given.work))
        elif given.dataset is not None:
            return _run_dataset(given)
        else:
            _run_experiment(given)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _run_experiment(given: argparse.Namespace) -> None:
    """Train rows, or predict real patients by a trained one."""
    rows = chosen_rows(given.rows, given.table)
    settings = Settings(patients=given.patients, test=given.test, steps=given.steps)
    experiment = Experiment(given.work, settings, say=_say)
    if given.real is not None:
        print(predict_real_patients(experiment, given.results, given.real))
        return
    experiment.prepare()
    runner = Runner(experiment, Records(given.results / "rows"))
    for seed in given.seeds:
        for row in rows:
            runner.run(row, seed, test=given.table in ("final", "long"))


def _run_dataset(given: argparse.Namespace) -> int:
    """The paper's tables on a real dataset; 1 if a fold failed."""
    dataset = RealDataset(given.dataset, given.results, say=_say)
    backend = chosen_backend(given)
    failed = dataset.train(backend, device=given.device or available_device())
    print(dataset.report())
    return int(bool(failed))


def _say(line: str) -> None:
    print(line, flush=True)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy", description=(__doc__ or "").partition(": ")[2]
    )
    default = Settings()
    parser.add_argument("--work", type=Path, default=REPOSITORY / "accuracy_work", metavar="FOLDER",
                        help="patients, models, logs (default: accuracy_work)")  # fmt: skip
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER",
                        help="records and report (default: results/accuracy)")  # fmt: skip
    parser.add_argument("--table", choices=TABLES,
                        help="final and long also predict the test patients")  # fmt: skip
    parser.add_argument("--rows", nargs="+", metavar="NAME", help="only these rows")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], choices=range(5),
                        help="each trains on the fold of its number (default: 0)")  # fmt: skip
    parser.add_argument("--steps", type=int, default=default.steps)
    parser.add_argument("--patients", type=int, default=default.patients)
    parser.add_argument("--test", type=int, default=default.test)
    parser.add_argument("--report", action="store_true",
                        help="train nothing, write README.md from the records")  # fmt: skip
    parser.add_argument("--real", type=Path, metavar="FOLDER",
                        help="predict a BraTS 2019 folder by the best S2CA-Net")  # fmt: skip
    parser.add_argument("--dataset", metavar="ID",
                        help="the paper's tables on a preprocessed dataset of nnU-Net's folders; "
                        "the options below say where its folds train")  # fmt: skip
    add_backend(parser, "--parallel")
    parser.add_argument("--list", action="store_true", help="print the rows and end")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
