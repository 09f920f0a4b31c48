"""`s2ca doctor`: check whether training could start here."""

from __future__ import annotations

import argparse

import nnunetv2_s2ca


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """This command has no arguments."""


def run(args: argparse.Namespace) -> int:
    installation = nnunetv2_s2ca.examine_installation()
    print(installation)
    return int(not installation.ready)
