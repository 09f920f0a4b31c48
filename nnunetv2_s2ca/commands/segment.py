"""`s2ca segment`: segment a patient from the scanner's files."""

from __future__ import annotations

import argparse
from pathlib import Path

import nnunetv2_s2ca
from nnunetv2_s2ca.commands.options import PREDICTOR, add_overwrite, add_predictor

OWN = ("space", "edition", "postprocessing", "report", "overwrite")
SEQUENCES = ("t1", "t1ce", "t2", "flair")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command line offers."""
    add_predictor(parser)
    for name in SEQUENCES:
        parser.add_argument(
            f"--{name}", type=Path, metavar="SCAN", help="NIfTI file, or folder of a DICOM series"
        )
    parser.add_argument(
        "-o", dest="output", type=Path, required=True, metavar="FILE", help="the segmentation"
    )
    parser.add_argument(
        "--space", choices=SEQUENCES, help="sequence whose grid the result gets (default: t1ce)"
    )
    parser.add_argument("--edition", help="write the labels of this edition, such as brats2019")
    parser.add_argument(
        "--postprocess",
        dest="postprocessing",
        nargs="?",
        type=Path,
        const=True,
        default=False,
        metavar="JSON",
        help="apply the rules of `s2ca postprocess --fit`; without a file, the model's own",
    )
    parser.add_argument("--report", type=Path, metavar="JSON", help="volumes, lesions, warnings")
    add_overwrite(parser, "existing files")


def run(args: argparse.Namespace) -> None:
    """Segment, and print the volumes."""
    scans = {name: getattr(args, name) for name in SEQUENCES if getattr(args, name) is not None}
    chosen = {name: getattr(args, name) for name in (*PREDICTOR, *OWN)}
    print(nnunetv2_s2ca.segment(scans, args.output, **chosen))
