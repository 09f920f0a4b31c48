"""`s2ca compare`: compare two evaluated runs case by case."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import nnunetv2_s2ca
from nnunetv2_s2ca.commands.options import add_report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for dest, metavar in (("first", "A"), ("second", "B")):
        parser.add_argument(dest, type=Path, metavar=metavar, help="metrics.csv, or its folder")
    parser.add_argument(
        "-o", dest="output", type=Path, metavar="FILE", help="also write the table as csv"
    )
    parser.add_argument(
        "--keep-going", action="store_true", help="compare only the cases of both runs"
    )
    add_report(parser)


def run(args: argparse.Namespace) -> int:
    comparison = nnunetv2_s2ca.compare(
        args.first, args.second, output=args.output, keep_going=args.keep_going, report=args.report
    )
    print(comparison)
    for case in comparison.unpaired:
        print(f"not compared: {case}", file=sys.stderr)
    return int(bool(comparison.unpaired))
