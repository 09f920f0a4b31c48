"""`s2ca segment`: segment a patient, or a folder of them, from the scanner's files."""

from __future__ import annotations

import argparse
from pathlib import Path

import nnunetv2_s2ca
from nnunetv2_s2ca.commands import options

SEQUENCES = ("t1", "t1ce", "t2", "flair")
OWN = ("space", "edition", "postprocessing", "probabilities", "uncertainty", "report", "preview")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_predictor(parser)
    scan = "NIfTI file, or folder of a DICOM series"
    for name in SEQUENCES:
        parser.add_argument(f"--{name}", type=Path, metavar="SCAN", help=scan)
    many = "instead: images of many patients, named as BraTS or nnU-Net names them"
    parser.add_argument("-i", dest="source", type=Path, metavar="FOLDER", help=many)
    result = "segmentation to write; with -i, the folder for them"
    parser.add_argument("-o", dest="output", type=Path, required=True, metavar="FILE", help=result)
    grid = "sequence whose grid the result gets (default: t1ce)"
    parser.add_argument("--space", choices=SEQUENCES, help=grid)
    parser.add_argument("--edition", help="write the labels of this edition, such as brats2019")
    options.add_postprocessing(parser)
    of_regions = "also write those of WT, TC, ET"
    parser.add_argument("--probabilities", action="store_true", help=of_regions)
    unsure = "also write entropy, and disagreement of folds and mirrorings"
    parser.add_argument("--uncertainty", action="store_true", help=unsure)
    volumes = "write volumes, lesions, warnings and versions"
    parser.add_argument("--report", type=Path, metavar="JSON", help=volumes)
    back = "folder `transforms` of `s2ca prepare`: also write labels on the scanner's grid"
    parser.add_argument("--native", type=Path, metavar="TRANSFORMS", help=back)
    planes = "write three planes through the tumour; with -i, the folder for them"
    parser.add_argument("--preview", type=Path, metavar="PNG", help=planes)
    keep = "with -i: skip patients that have a segmentation"
    parser.add_argument("--continue_prediction", action="store_true", help=keep)
    options.add_overwrite(parser, "existing files")


def run(args: argparse.Namespace) -> int:
    scans = {name: getattr(args, name) for name in SEQUENCES if getattr(args, name) is not None}
    chosen = {name: getattr(args, name) for name in (*options.PREDICTOR, *OWN, "overwrite")}
    keep = args.continue_prediction
    if (args.source is None) == (not scans):
        raise nnunetv2_s2ca.UserError("name the scans of one patient (--t1 …), or a folder (-i)")
    if scans and keep:
        raise nnunetv2_s2ca.UserError("--continue_prediction is for a folder (-i)")
    if args.source and args.native:
        raise nnunetv2_s2ca.UserError("--native is for one patient (--t1 …), not for a folder (-i)")
    if scans:
        print(nnunetv2_s2ca.segment(scans, args.output, native=args.native, **chosen))
        return 0
    many = nnunetv2_s2ca.segment_folder(
        args.source, args.output, continue_prediction=keep, **chosen
    )
    print(many)
    return int(bool(many.failed))
