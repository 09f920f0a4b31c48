"""`s2ca export-network`: write a trained network as ONNX or pt2, for other programs."""

from __future__ import annotations

import argparse
from pathlib import Path

import nnunetv2_s2ca
from nnunetv2_s2ca.commands.options import add_overwrite, name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for option, dest, text in (
        ("-m", "model", "nnU-Net's folder of the trained model"),
        ("-o", "output", "folder for the network and its JSON file"),
    ):
        parser.add_argument(
            option, dest=dest, type=Path, required=True, metavar="FOLDER", help=text
        )
    parser.add_argument(
        "--format", choices=("onnx", "pt2"), default="onnx", help="default: %(default)s"
    )
    parser.add_argument(
        "-f", dest="fold", type=name, default="0", metavar="FOLD", help="default: %(default)s"
    )
    parser.add_argument(
        "-chk",
        dest="checkpoint",
        type=name,
        default="checkpoint_final.pth",
        metavar="FILE",
        help="checkpoint in the fold's folder (default: %(default)s)",
    )
    add_overwrite(parser, "files of the same names")


def run(args: argparse.Namespace) -> None:
    print(
        nnunetv2_s2ca.export_network(
            args.model,
            args.output,
            format=args.format,
            fold=args.fold,
            checkpoint=args.checkpoint,
            overwrite=args.overwrite,
        )
    )
