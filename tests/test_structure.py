"""Modules and signatures stay short, and every option has a help text."""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterator
from pathlib import Path

from nnunetv2_s2ca.cli import build_parser

ROOT = Path(__file__).parent.parent
LONGEST_MODULE = 300  # lines
LONGEST_COMMAND = 60
SHARED_BY_COMMANDS = {"options.py", "backend.py"}
MOST_ARGUMENTS = 6
# what users call by keywords, the public API and the network's constructor; and Triton's kernels,
# which take pointers and sizes one by one
LONGER_SIGNATURES = (
    "nnunetv2_s2ca/api/",
    "nnunetv2_s2ca/architecture/s2ca_net.py",
    "nnunetv2_s2ca/architecture/fused/deform_conv_kernels.py",
)


def _modules() -> Iterator[tuple[str, str]]:
    for package in ("nnunetv2_s2ca", "dataset_conversion", "benchmarks"):
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


def _signatures(source: str) -> Iterator[tuple[str, list[str]]]:
    """Functions and their arguments, without `self` and `cls`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
            names = [argument.arg for argument in arguments]
            yield node.name, [name for name in names if name not in ("self", "cls")]


def test_no_module_is_too_long():
    lengths = {name: source.count("\n") for name, source in _modules()}
    assert len(lengths) > 100
    assert {name: count for name, count in lengths.items() if count > LONGEST_MODULE} == {}


def test_no_command_is_too_long():
    commands = {
        name: source.count("\n")
        for name, source in _modules()
        if "/commands/" in name and Path(name).name not in SHARED_BY_COMMANDS
    }
    assert len(commands) > 20
    assert {name: count for name, count in commands.items() if count > LONGEST_COMMAND} == {}


def test_no_signature_is_too_long():
    found = {
        f"{name}: {function}": arguments
        for name, source in _modules()
        if not name.startswith(LONGER_SIGNATURES)
        for function, arguments in _signatures(source)
        if len(arguments) > MOST_ARGUMENTS
    }
    assert found == {}


def test_signatures_are_counted_without_self():
    source = "class A:\n    def f(self, a, /, b, *rest, c=1, **more): ...\n"
    assert list(_signatures(source)) == [("f", ["a", "b", "c"])]


def test_every_option_of_every_command_has_a_help_text():
    (commands,) = (
        action.choices
        for action in build_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    assert [
        (name, action.option_strings or action.dest)
        for name, parser in commands.items()
        for action in parser._actions
        if not action.help
    ] == []
