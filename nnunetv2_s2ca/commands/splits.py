"""`s2ca splits`: write patient-disjoint folds."""

from __future__ import annotations

import argparse

import nnunetv2_s2ca
from nnunetv2_s2ca.commands.options import add_dataset_id, add_overwrite


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset_id(parser)
    parser.add_argument("--folds", type=int, default=5, help="default: %(default)s")
    parser.add_argument(
        "--seed", type=int, default=12345, help="default: %(default)s, as in nnU-Net"
    )
    add_overwrite(parser, "other folds")


def run(args: argparse.Namespace) -> None:
    print(
        nnunetv2_s2ca.write_splits(
            args.dataset_id, folds=args.folds, seed=args.seed, overwrite=args.overwrite
        )
    )
