"""What the package says that it needs, beside what it imports."""

from __future__ import annotations

import ast
import sys
from importlib.metadata import packages_distributions, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CHECKOUT = Path(__file__).parents[1]
# what nnU-Net is built on; named for the versions, whether or not a module imports it
BESIDE_NNUNET = {
    "acvl-utils",
    "batchgenerators",
    "dynamic-network-architectures",
}
OF_TORCH = {"triton"}  # comes with torch where it works, and is optional
OF_AN_EXTRA = {
    CHECKOUT / "nnunetv2_s2ca" / "evaluation" / "official.py",
    CHECKOUT / "nnunetv2_s2ca" / "network_export" / "formats.py",
    CHECKOUT / "nnunetv2_s2ca" / "preparation" / "brain.py",
    CHECKOUT / "nnunetv2_s2ca" / "viewer" / "widget.py",
}


def _imported_packages():
    folders = (CHECKOUT / "nnunetv2_s2ca", CHECKOUT / "dataset_conversion")
    paths = {path for folder in folders for path in folder.rglob("*.py")} - OF_AN_EXTRA
    modules = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                modules.add(node.module.partition(".")[0])
    distributions = packages_distributions()
    return {
        canonicalize_name(distributions[module][0])
        for module in modules - sys.stdlib_module_names - {"nnunetv2_s2ca"}
    }


def test_package_needs_what_it_imports_and_no_more():
    needed = [Requirement(line) for line in requires("nnunetv2-s2ca")]
    names = {canonicalize_name(item.name) for item in needed if item.marker is None}
    imported = _imported_packages() - OF_TORCH
    assert names - BESIDE_NNUNET == imported - BESIDE_NNUNET
