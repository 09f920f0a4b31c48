"""`s2ca demo`: synthetic patients through the whole chain, minutes on a CPU."""

from __future__ import annotations

import argparse
from pathlib import Path

import nnunetv2_s2ca

NUMBERS = (
    ("--patients", 20, "patients to train on"),
    ("--held-out", 8, "patients to predict"),
    ("--seed", 0, "seed of the patients"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="folder for all files")
    for option, default, text in NUMBERS:
        parser.add_argument(
            option, type=int, default=default, help=f"{text} (default: %(default)s)"
        )
    parser.add_argument(
        "-f",
        dest="folds",
        type=int,
        nargs="+",
        default=[0, 1],
        metavar="FOLD",
        help="folds to train (default: 0 1)",
    )
    parser.add_argument(
        "-tr", dest="trainer", default="nnUNetTrainerS2CA_demo", help="default: %(default)s"
    )
    parser.add_argument(
        "-device", choices=("cpu", "cuda", "mps"), default="cpu", help="default: cpu"
    )
    parser.add_argument(
        "--min-dice",
        type=float,
        nargs=3,
        default=(0.9, 0.75, 0.75),
        metavar=("WT", "TC", "ET"),
        help="fail if the ensemble's Dice of a region is lower (default: 0.9 0.75 0.75)",
    )


def run(args: argparse.Namespace) -> None:
    settings = nnunetv2_s2ca.DemoSettings(
        patients=args.patients,
        held_out=args.held_out,
        folds=tuple(args.folds),
        trainer=args.trainer,
        seed=args.seed,
        device=args.device,
    )
    result = nnunetv2_s2ca.run_demo(args.output, settings)
    print(f"\n{result}")
    result.check(dict(zip(("WT", "TC", "ET"), args.min_dice, strict=True)))
