"""`s2ca container`: write what a container for the BraTS challenge is built from."""

from __future__ import annotations

import argparse
from pathlib import Path

import nnunetv2_s2ca
from nnunetv2_s2ca.commands.options import add_overwrite

OWN = ("edition", "folds", "checkpoint", "mirroring", "step_size", "postprocess", "overwrite")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command line offers."""
    parser.add_argument(
        "-m", dest="model", type=Path, required=True, metavar="MODEL", help="folder or zip file"
    )
    parser.add_argument("--edition", required=True, help="whose labels to write: brats2023-gli …")
    parser.add_argument("-o", dest="output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("-f", dest="folds", nargs="+", metavar="FOLD", help="default: all")
    parser.add_argument("-chk", dest="checkpoint", default="checkpoint_final.pth", metavar="NAME")
    parser.add_argument(
        "--no-mirroring", dest="mirroring", action="store_false", help="faster, less accurate"
    )
    parser.add_argument("-step_size", type=float, default=0.5, metavar="SHARE")
    parser.add_argument(
        "--postprocess", action="store_true", help="apply the model's own post-processing"
    )
    add_overwrite(parser, "an existing folder")


def run(args: argparse.Namespace) -> None:
    """Write the folder."""
    chosen = {key: getattr(args, key) for key in OWN}
    print(nnunetv2_s2ca.write_container(args.model, args.output, **chosen))
