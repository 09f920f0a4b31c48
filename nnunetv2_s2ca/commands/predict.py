"""`s2ca predict`: run `nnUNetv2_predict` as several jobs."""

from __future__ import annotations

import argparse
from pathlib import Path

import nnunetv2_s2ca
from nnunetv2_s2ca.commands.backend import add_backend, chosen_backend
from nnunetv2_s2ca.commands.options import add_model, name

FOLDS = ("0", "1", "2", "3", "4")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-i", dest="images", type=Path, required=True, metavar="FOLDER", help="CASE_0000.nii.gz …"
    )
    parser.add_argument(
        "-o", dest="output", type=Path, required=True, metavar="FOLDER", help="for the predictions"
    )
    add_model(parser)
    parser.add_argument(
        "-tr",
        dest="trainer",
        type=name,
        default="nnUNetTrainerS2CA",
        metavar="TRAINER",
        help="default: %(default)s",
    )
    parser.add_argument(
        "-f", dest="folds", nargs="+", default=FOLDS, metavar="FOLD", help="default: 0 1 2 3 4"
    )
    add_backend(parser, "--jobs")
    parser.add_argument(
        "options", nargs="*", metavar="-- OPTIONS", help="further options of nnUNetv2_predict"
    )


def run(args: argparse.Namespace) -> int:
    backend = chosen_backend(args)
    report = nnunetv2_s2ca.predict(
        args.images,
        args.output,
        dataset=args.dataset,
        configuration=args.configuration,
        trainer=args.trainer,
        plans=args.plans,
        folds=args.folds,
        backend=backend,
        jobs=args.parallel or getattr(backend, "slots", 1),
        device=args.device,
        options=args.options,
    )
    return int(bool(report.failed))
