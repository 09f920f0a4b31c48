"""`s2ca link`: let nnU-Net find the trainers of an editable install."""

from __future__ import annotations

import argparse

import nnunetv2_s2ca


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--remove", action="store_true", help="undo it")


def run(args: argparse.Namespace) -> None:
    if args.remove:
        print(f"removed {nnunetv2_s2ca.unlink_trainers()}")
    else:
        print(f"wrote {nnunetv2_s2ca.link_trainers()}")
