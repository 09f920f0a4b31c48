"""`s2ca evaluate`: score predictions by the challenge's rules."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import nnunetv2_s2ca
from nnunetv2_s2ca.commands import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for option, dest, what in (
        ("--ref", "reference", "true segmentations"),
        ("--pred", "predictions", "predictions"),
    ):
        parser.add_argument(
            option, dest=dest, type=Path, required=True, metavar="FOLDER", help=what
        )
    parser.add_argument(
        "--edition",
        help="the files hold the labels of this edition, such as brats2019 (default: nnU-Net's "
        "labels, with the regions of dataset.json)",
    )
    options.add_dataset_json(parser)
    parser.add_argument(
        "--rules",
        help="classic, lesionwise-2023 or brats-2026 (default: the edition's, else classic)",
    )
    parser.add_argument("--tolerance", type=float, metavar="MM", help="of NSD (default: 1)")
    parser.add_argument(
        "-o",
        dest="output",
        type=Path,
        metavar="FOLDER",
        help="default: s2ca_evaluation in --pred",
    )
    parser.add_argument("--keep-going", action="store_true", help="skip invalid cases")
    parser.add_argument("--official", action="store_true", help="also run brats-evaluation")
    options.add_report(parser)
    options.add_overwrite(parser, "earlier results")
    options.add_processes(parser)


def run(args: argparse.Namespace) -> int:
    given = {name: value for name, value in vars(args).items() if name in OPTIONS}
    evaluation = nnunetv2_s2ca.evaluate(args.reference, args.predictions, **given)
    print(evaluation)
    for problem in evaluation.problems:
        print(f"not evaluated: {problem}", file=sys.stderr)
    return int(bool(evaluation.problems))


OPTIONS = (
    *("edition", "dataset_json", "rules", "tolerance", "output", "official", "keep_going"),
    *("overwrite", "processes", "report"),
)
