"""The `s2ca` command: finds the command's file in `commands`, runs it, and reports how it ended."""

from __future__ import annotations

import argparse
import importlib
import logging
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType

import nnunetv2_s2ca
from nnunetv2_s2ca.core.console import finish, provide_streams
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.signals import signals_as_exceptions

COMMANDS = (
    "doctor",
    "link",
    "trainers",
    "check",
    "convert",
    "splits",
    "export",
    "demo",
    "import-checkpoint",
    "evaluate",
    "compare",
    "report",
    "view",
    "postprocess",
    "crossval",
    "predict",
    "prepare",
    "segment",
    "container",
    "model",
    "export-network",
)
# how errors name a parameter of the public API: `overwrite=True`, `output`
PARAMETER = re.compile(r"`(\w+)(?:=([^`]*))?`")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the `s2ca` command; returns the process' exit code."""
    provide_streams()
    command = "s2ca"
    parser = build_parser()
    try:
        args = parser.parse_args(argv)
        command = f"s2ca {args.command}"
        with _progress_printed(), signals_as_exceptions():
            code = args.run(args)
    except UserError as error:
        shown = UserError(in_options(str(error), args.parser))
        shown.__cause__ = error
        return finish(command, shown)
    except (OSError, MemoryError, KeyboardInterrupt) as error:
        return finish(command, error)
    except ImportError as error:
        if "failed to map segment" not in str(error):  # the system's words for too little memory
            raise
        return finish(command, MemoryError())
    except SystemExit as ending:  # of the parser, or by a signal
        raise SystemExit(finish(command) or ending.code) from None
    return finish(command) or code or 0


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="s2ca", description="S2CA-Net for nnU-Net v2: what nnU-Net's own commands lack."
    )
    parser.add_argument("--version", action=_PrintVersion, nargs=0, help="print the version")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        module = importlib.import_module(f"nnunetv2_s2ca.commands.{name.replace('-', '_')}")
        _add(commands, name, module)
    return parser


def in_options(message: str, parser: argparse.ArgumentParser) -> str:
    """A message with the parameters of the public API replaced by the command's options."""
    options = {
        action.dest: action.option_strings[0] for action in parser._actions if action.option_strings
    }

    def option(match: re.Match[str]) -> str:
        name, value = match.groups()
        if name not in options:
            return match[0]
        return options[name] if value in (None, "True") else f"{options[name]} {value}"

    return PARAMETER.sub(option, message)


class _PrintVersion(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"s2ca {nnunetv2_s2ca.__version__}")
        parser.exit()


def _add(commands: argparse._SubParsersAction, name: str, module: ModuleType) -> None:
    text = (module.__doc__ or "").split(": ", 1)[1].split("\n")[0].rstrip(".")
    parser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    module.add_arguments(parser)
    parser.set_defaults(run=module.run, parser=parser)


class _Printer(logging.StreamHandler):
    """Prints, and fails as `print` does, where logging would show a traceback and go on."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        raise


@contextmanager
def _progress_printed() -> Iterator[None]:
    """Print what the public functions report while the block runs."""
    handler = _Printer(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("nnunetv2_s2ca")
    former = logger.handlers, logger.level, logger.propagate
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:  # a program that calls this one may go on with another standard output
        logger.handlers, level, logger.propagate = former
        logger.setLevel(level)


if __name__ == "__main__":
    sys.exit(main())
