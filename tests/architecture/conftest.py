"""Fixtures that choose between the fast forms and the formulas."""

from __future__ import annotations

import pytest

from nnunetv2_s2ca.architecture import fused
from nnunetv2_s2ca.architecture.fused import choice, slabs

LIMITS = ("BLOCK_VALUES", "MERGED_VALUES", "SAMPLED_VALUES", "KEPT_BYTES")


@pytest.fixture
def as_large_maps(monkeypatch):
    """Compute the small maps of a test the way of large ones."""
    for limit in LIMITS:
        monkeypatch.setattr(choice, limit, 0)
    monkeypatch.setattr(slabs, "ONE_SLAB_VALUES", 0)


@pytest.fixture
def as_other_devices(monkeypatch):
    """Compute the way of devices that are no processors: by the formulas."""
    for module in (choice, fused):
        monkeypatch.setattr(module, "on_processor", lambda x: False)


@pytest.fixture(params=["small maps", "large maps"])
def both_sizes(request):
    """Compute small maps as they are, and again the way of large ones."""
    if request.param == "large maps":
        request.getfixturevalue("as_large_maps")
