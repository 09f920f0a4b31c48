"""Commands and code in the documentation work as written."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from nnunetv2_s2ca.cli import build_parser

CHECKOUT = Path(__file__).parents[1]
PAGES = [CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md", *(CHECKOUT / "docs").glob("*.md")]


def _blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


def _commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for block in _blocks(page, "bash"):
            lines = block.replace("\\\n", " ").splitlines()
            found += [(page.name, part.strip()) for line in lines for part in line.split("&&")]
    return [(page, line) for page, line in found if line.startswith("s2ca ")]


@pytest.mark.parametrize(("page", "line"), _commands(), ids=lambda text: text[:60])
def test_the_command_line_accepts_each_documented_command(page, line):
    arguments = shlex.split(line, comments=True)[1:]
    parsed = build_parser().parse_args(arguments)
    assert parsed.command == arguments[0], page


def test_the_python_page_runs_as_written(tmp_path):
    script = _blocks(CHECKOUT / "docs" / "python.md", "python")[0]
    assert sum(bool(line.strip()) for line in script.splitlines()) <= 16
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "run_b" / "metrics.csv").is_file()
    assert "B wins" in result.stdout


def test_readme_is_short():
    assert len((CHECKOUT / "README.md").read_text(encoding="utf-8").split()) <= 900


def test_every_page_is_in_the_navigation():
    navigation = (CHECKOUT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in (CHECKOUT / "docs").glob("*.md"):
        assert f"- {page.name}" in navigation, page.name


def test_links_between_pages_lead_to_files():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"
