"""`s2ca import-checkpoint`: make an nnU-Net model from the authors' weights."""

from __future__ import annotations

import argparse
from pathlib import Path

import nnunetv2_s2ca
from nnunetv2_s2ca.commands.options import add_overwrite


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="the authors' .pkl files, one per fold"
    )
    parser.add_argument(
        "-o",
        dest="output",
        type=Path,
        metavar="FOLDER",
        help="folder of the model or dataset",
    )
    parser.add_argument(
        "--dataset",
        metavar="ID",
        help="dataset of the model; without -o, the model goes to its place in nnUNet_results",
    )
    parser.add_argument(
        "--describe", action="store_true", help="print what the files hold; write nothing"
    )
    parser.add_argument("--trust", action="store_true", help="read files that can run code")
    add_overwrite(parser, "a model that was imported before")


def run(args: argparse.Namespace) -> None:
    if args.describe:
        print(nnunetv2_s2ca.describe_checkpoints(args.files, trust=args.trust))
        return
    print(
        nnunetv2_s2ca.import_checkpoints(
            args.files,
            output=args.output,
            dataset=args.dataset,
            trust=args.trust,
            overwrite=args.overwrite,
        )
    )
