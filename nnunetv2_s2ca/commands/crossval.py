"""`s2ca crossval`: train and validate all folds, on this machine or on SLURM."""

from __future__ import annotations

import argparse

import nnunetv2_s2ca
from nnunetv2_s2ca.commands.backend import add_backend, chosen_backend
from nnunetv2_s2ca.commands.options import add_model, add_report, name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument(
        "-tr",
        dest="trainers",
        nargs="+",
        type=name,
        default=["nnUNetTrainerS2CA"],
        metavar="TRAINER",
        help="one or several (default: nnUNetTrainerS2CA)",
    )
    parser.add_argument(
        "-f", dest="folds", nargs="+", type=int, metavar="FOLD", help="default: all of the split"
    )
    add_report(parser)
    add_backend(parser, "--parallel")


def run(args: argparse.Namespace) -> int:
    report = nnunetv2_s2ca.cross_validate(
        args.dataset,
        args.configuration,
        trainers=args.trainers,
        plans=args.plans,
        folds=args.folds,
        backend=chosen_backend(args),
        device=args.device,
        report=args.report,
    )
    print(report)
    return int(bool(report.outcome.failed))
