"""One prepared head for all tests that only read it."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from nnunetv2_s2ca import prepare
from tests.preparation.heads import add_identity, coarse_atlas, make_head, write_head


@pytest.fixture(autouse=True)
def _no_stream_of_a_former_command(monkeypatch):
    monkeypatch.setattr(logging.getLogger("nnunetv2_s2ca"), "handlers", [])


@pytest.fixture(scope="session")
def atlas(tmp_path_factory):
    return coarse_atlas(tmp_path_factory.mktemp("atlas") / "atlas.nii.gz")


@pytest.fixture(scope="session")
def prepared(tmp_path_factory, atlas):
    """A head on a grid of 4 mm, its files, and what `prepare` made of them."""
    folder = tmp_path_factory.mktemp("head")
    head = make_head(5)
    files = write_head(head, folder / "Doe_John")
    for path in files.values():
        add_identity(path)
    outcome = prepare(
        files, folder / "case-1", mask=folder / "Doe_John" / "mask.nii.gz", atlas=atlas
    )
    return SimpleNamespace(head=head, files=files, folder=folder / "case-1", outcome=outcome)
