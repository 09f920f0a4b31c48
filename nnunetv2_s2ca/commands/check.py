"""`s2ca check`: read every case of a BraTS download and report what is wrong."""

from __future__ import annotations

import argparse
from pathlib import Path

import nnunetv2_s2ca
from nnunetv2_s2ca.commands.options import add_processes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("edition", help="such as brats2019; an unknown one lists them all")
    parser.add_argument("source", type=Path, help="folder of the unzipped download")
    add_processes(parser)


def run(args: argparse.Namespace) -> int:
    report = nnunetv2_s2ca.check(args.edition, args.source, processes=args.processes)
    print(report)
    return int(bool(report.problems))
