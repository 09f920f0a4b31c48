"""`s2ca container`: write what a container for the BraTS challenge is built from."""

from __future__ import annotations

import argparse
from pathlib import Path

import nnunetv2_s2ca
from nnunetv2_s2ca.commands.options import add_overwrite, add_trained_model

OWN = ("edition", "folds", "checkpoint", "mirroring", "step_size", "postprocess", "overwrite")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_trained_model(parser)
    parser.add_argument("--edition", required=True, help="whose labels to write: brats2023-gli …")
    target = "folder for all that the build needs"
    parser.add_argument(
        "-o", dest="output", type=Path, required=True, metavar="FOLDER", help=target
    )
    parser.add_argument(
        "--postprocess", action="store_true", help="apply the model's own post-processing"
    )
    add_overwrite(parser, "an existing folder")


def run(args: argparse.Namespace) -> None:
    chosen = {key: getattr(args, key) for key in OWN}
    print(nnunetv2_s2ca.write_container(args.model, args.output, **chosen))
