"""The `s2ca` command: parses arguments and calls; the work is done in the other modules."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from nnunetv2_s2ca.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the `s2ca` command; returns the process' exit code."""
    args = _build_parser().parse_args(argv)
    try:
        return args.run(args) or 0
    except UserError as error:
        print(f"s2ca {args.command}: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"s2ca {args.command}: interrupted", file=sys.stderr)
        return 130


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="s2ca", description="S2CA-Net for nnU-Net v2: what nnU-Net's own commands leave open."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in ():
        add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
