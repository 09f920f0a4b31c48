"""`s2ca prepare`: bring a patient's raw scans to what models of BraTS expect."""

from __future__ import annotations

import argparse
from pathlib import Path

import nnunetv2_s2ca
from nnunetv2_s2ca.commands.options import add_overwrite

SEQUENCES = ("t1", "t1ce", "t2", "flair")
OWN = ("atlas", "mask", "no_skull_stripping", "bias_field", "edition", "device", "overwrite")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command line offers."""
    for name in SEQUENCES:
        parser.add_argument(
            f"--{name}", type=Path, metavar="SCAN", help="NIfTI file, or folder of a DICOM series"
        )
    parser.add_argument(
        "-o",
        dest="output",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="folder of the case; its name is the case identifier",
    )
    parser.add_argument(
        "--atlas", type=Path, metavar="FILE", help="skull-stripped atlas (default: MNI152 at 1 mm)"
    )
    stripping = parser.add_mutually_exclusive_group()
    stripping.add_argument(
        "--mask", type=Path, metavar="FILE", help="brain mask of the T1ce (default: by HD-BET)"
    )
    stripping.add_argument(
        "--no-skull-stripping", action="store_true", help="the scans are skull-stripped"
    )
    parser.add_argument(
        "--bias-field",
        action="store_true",
        help="correct the bias field for registration; the images keep their intensities",
    )
    parser.add_argument(
        "--edition", default="brats2023-gli", help="names of the files (default: %(default)s)"
    )
    parser.add_argument(
        "-device",
        choices=("cuda", "cpu", "mps"),
        help="for HD-BET (default: cuda if available)",
    )
    add_overwrite(parser, "an existing folder")


def run(args: argparse.Namespace) -> None:
    """Prepare the patient."""
    scans = {name: getattr(args, name) for name in SEQUENCES if getattr(args, name) is not None}
    print(nnunetv2_s2ca.prepare(scans, args.output, **{key: getattr(args, key) for key in OWN}))
