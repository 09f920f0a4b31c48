"""Converting one edition from the command line, for the modules `DatasetNNN_….py`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from nnunetv2_s2ca.brats.editions import edition_named
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.dataset_conversion.convert import Options, convert


def convert_edition(name: str, argv: Sequence[str] | None = None) -> int:
    """Convert a download like `s2ca convert` with its defaults; returns the exit code.

    Args:
        name: The edition's name.
        argv: Arguments; those of this process if None.
    """
    parser = argparse.ArgumentParser(description=f"Convert {name} to nnU-Net's raw format.")
    parser.add_argument("source", type=Path, help="folder of the unzipped download")
    parser.add_argument("-d", type=int, metavar="ID", help="dataset id (default: the edition's)")
    parser.add_argument("-np", type=int, metavar="N", help="worker processes (default: all cores)")
    args = parser.parse_args(argv)
    try:
        options = Options(dataset_id=args.d)
        print(convert(edition_named(name), args.source, options, processes=args.np))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
