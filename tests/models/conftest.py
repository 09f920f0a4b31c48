"""The tiny model of the segmentation's tests, packed once."""

from __future__ import annotations

from pathlib import Path

import pytest

import nnunetv2_s2ca
from tests.segmentation.conftest import (
    _no_stream_of_a_former_command,
    model,
    patient,
    place,
    scans,
    straight,
)

__all__ = ["_no_stream_of_a_former_command", "model", "patient", "place", "scans", "straight"]


@pytest.fixture(scope="package")
def packed(model, place) -> Path:
    """The tiny model in one file."""
    return nnunetv2_s2ca.pack_model(model, place / "packed.zip", edition="brats2019").path
