"""`s2ca postprocess`: remove small components and sparse enhancing tumour."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import nnunetv2_s2ca
from nnunetv2_s2ca.commands.options import add_dataset_json, add_overwrite, add_processes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--fit", action="store_true", help="choose the sizes by cross-validation")
    what.add_argument(
        "--apply", dest="rules", type=Path, metavar="JSON", help="use the sizes that --fit wrote"
    )
    for option, dest, metavar, text in (
        ("-i", "predictions", "FOLDER", "predictions to clean up"),
        ("-m", "model", "FOLDER", "with --fit: nnU-Net's folder of the trained model"),
        (
            "--ref",
            "reference",
            "FOLDER",
            "with --fit: true segmentations (default: gt_segmentations)",
        ),
        ("--splits", "splits", "FILE", "with --fit: folds (default: splits_final.json)"),
        ("-o", "output", "PATH", "folder for the output; with --fit, the JSON file"),
    ):
        parser.add_argument(option, dest=dest, type=Path, metavar=metavar, help=text)
    parser.add_argument("--fill-holes", action="store_true", help="also fill holes of WT and TC")
    add_dataset_json(parser)
    add_overwrite(parser, "existing output")
    add_processes(parser)


def run(args: argparse.Namespace) -> None:
    common = {name: getattr(args, name) for name in COMMON}
    if not args.fit:
        if args.predictions is None or args.output is None:
            raise nnunetv2_s2ca.UserError("`predictions` and `output` are needed")
        files = (args.predictions, args.output)
        print(nnunetv2_s2ca.postprocess(*files, rules=args.rules, **common))
        return
    if args.model is None:
        raise nnunetv2_s2ca.UserError("--fit needs `model`, the folder of the trained model")
    own = {name: getattr(args, name) for name in ("reference", "splits", "output")}
    fitted = nnunetv2_s2ca.fit_postprocessing(args.model, **own, **common)
    print(fitted)
    if fitted.missing_folds:
        missing = f"fold {', '.join(map(str, fitted.missing_folds))}; its cases took no part"
        print(f"warning: {args.model} has no validation of {missing}", file=sys.stderr)


COMMON = ("fill_holes", "dataset_json", "overwrite", "processes")
