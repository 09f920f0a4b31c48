"""`s2ca trainers`: list the trainers for `nnUNetv2_train -tr`."""

from __future__ import annotations

import argparse

import nnunetv2_s2ca


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """This command has no arguments."""


def run(args: argparse.Namespace) -> None:
    print(nnunetv2_s2ca.describe_trainers())
