"""`s2ca export`: write predictions as the challenge expects them."""

from __future__ import annotations

import argparse
from pathlib import Path

import nnunetv2_s2ca
from nnunetv2_s2ca.commands.options import add_processes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-d", dest="dataset", type=int, metavar="ID", help="dataset id")
    parser.add_argument("--edition", help="without a dataset: the edition, such as brats2021")
    parser.add_argument(
        "--like",
        type=Path,
        metavar="FOLDER",
        help="without a dataset: the images that were predicted",
    )
    parser.add_argument(
        "-i", dest="predictions", type=Path, required=True, metavar="FOLDER", help="predictions"
    )
    parser.add_argument(
        "-o", dest="output", type=Path, required=True, metavar="FOLDER", help="new or empty"
    )
    parser.add_argument(
        "--allow-unknown",
        action="store_true",
        help="also export cases without an image, in their own geometry",
    )
    add_processes(parser)


def run(args: argparse.Namespace) -> None:
    print(
        nnunetv2_s2ca.export(
            args.dataset,
            args.predictions,
            args.output,
            edition=args.edition,
            like=args.like,
            allow_unknown=args.allow_unknown,
            processes=args.processes,
        )
    )
