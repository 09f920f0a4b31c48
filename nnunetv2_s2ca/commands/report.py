"""`s2ca report`: one HTML page about runs, with tables, plots and pictures of cases."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import nnunetv2_s2ca
from nnunetv2_s2ca.commands.options import add_dataset_json, add_overwrite, add_processes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs",
        type=Path,
        nargs="+",
        metavar="RUN",
        help="trained model, folder of predictions, results of `s2ca evaluate`, or the JSON file "
        "of `s2ca segment`; several are compared with the first",
    )
    parser.add_argument(
        "-o", dest="output", type=Path, required=True, metavar="FILE", help="such as report.html"
    )
    parser.add_argument(
        "--ref",
        dest="reference",
        type=Path,
        metavar="FOLDER",
        help="true segmentations (default: those of the run)",
    )
    parser.add_argument(
        "--images", type=Path, metavar="FOLDER", help="images (default: those of the run)"
    )
    add_dataset_json(parser)
    parser.add_argument("--title", help="heading of the page")
    parser.add_argument(
        "--pictures",
        type=int,
        default=10,
        metavar="N",
        help="show the N best and the N worst cases (default: %(default)s)",
    )
    add_overwrite(parser, "an earlier page")
    add_processes(parser)


def run(args: argparse.Namespace) -> None:
    given = {name: value for name, value in vars(args).items() if name in OPTIONS}
    written = nnunetv2_s2ca.report(args.runs, args.output, **given)
    for line in written.missing:
        print(f"not shown: {line}", file=sys.stderr)
    print(written)


OPTIONS = (*("reference", "images", "dataset_json", "title", "pictures", "overwrite", "processes"),)
