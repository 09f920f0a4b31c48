"""The public API: what it exports, what importing it costs, and how errors name its parameters."""

from __future__ import annotations

import inspect
import logging
import subprocess
import sys
from pathlib import Path

import pytest

import nnunetv2_s2ca
from nnunetv2_s2ca import cli
from nnunetv2_s2ca.synthetic.brats import write_brats2019

COMMANDS = Path(cli.__file__).parent / "commands"


@pytest.mark.parametrize("name", nnunetv2_s2ca.__all__)
def test_each_public_name_is_there_and_documented(name):
    value = getattr(nnunetv2_s2ca, name)
    assert name == "__version__" or inspect.getdoc(value)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'segment_everything'"):
        _ = nnunetv2_s2ca.segment_everything


def test_importing_the_package_imports_no_library():
    program = (
        "import sys; before = set(sys.modules); import nnunetv2_s2ca; "
        "print(*{name.split('.')[0] for name in set(sys.modules) - before})"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    loaded = set(result.stdout.split())
    assert loaded <= {"nnunetv2_s2ca", *sys.stdlib_module_names}


def test_functions_report_through_logging_and_print_nothing(
    tmp_path, nnunet_folders, capsys, caplog, monkeypatch
):
    logger = logging.getLogger("nnunetv2_s2ca")  # as it is where no command has run
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "propagate", True)
    write_brats2019(tmp_path / "download", patients=2, seed=1, shape=(24, 28, 24), spacing=8.0)
    with caplog.at_level(logging.INFO, "nnunetv2_s2ca"):
        converted = nnunetv2_s2ca.convert("brats2019", str(tmp_path / "download"), processes=1)
    assert capsys.readouterr().out == ""
    assert "brats2019" in caplog.text
    assert converted.training == 2
    assert "2 training cases" in str(converted)


def test_a_command_leaves_logging_as_it_was(capsys):
    logger = logging.getLogger("nnunetv2_s2ca")
    before = list(logger.handlers), logger.level, logger.propagate
    assert cli.main(["convert", "brats1999", "nowhere"]) == 1
    assert (list(logger.handlers), logger.level, logger.propagate) == before


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("pass `overwrite=True` to replace it", "pass --overwrite to replace it"),
        ("name another folder (`output`)", "name another folder (-o)"),
        ("fewer processes (`processes=1`)", "fewer processes (-np 1)"),
        ("`nnUNetv2_train` and `unknown=3` stay", "`nnUNetv2_train` and `unknown=3` stay"),
    ],
)
def test_errors_name_the_options_of_the_command(message, expected):
    args = cli.build_parser().parse_args(["export", "-d", "1", "-i", "in", "-o", "out"])
    args.parser.add_argument("--overwrite", action="store_true")
    assert cli.in_options(message, args.parser) == expected


def test_a_python_error_names_the_parameter_and_the_command_its_option(
    tmp_path, nnunet_folders, capsys
):
    write_brats2019(tmp_path / "download", patients=2, seed=1, shape=(24, 28, 24), spacing=8.0)
    command = ["convert", "brats2019", str(tmp_path / "download"), "-np", "1"]
    assert cli.main(command) == 0
    with pytest.raises(nnunetv2_s2ca.UserError, match="`overwrite=True`"):
        nnunetv2_s2ca.convert("brats2019", tmp_path / "download")
    assert cli.main(command) == 1
    assert "--overwrite" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted(COMMANDS.glob("*.py")), ids=lambda path: path.stem)
def test_a_command_is_short(path):
    if path.stem not in ("options", "backend"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 60


def test_version_is_printed(capsys):
    with pytest.raises(SystemExit) as ending:
        cli.main(["--version"])
    assert not ending.value.code
    assert capsys.readouterr().out == f"s2ca {nnunetv2_s2ca.__version__}\n"
