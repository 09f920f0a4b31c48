"""One tiny model and one synthetic patient for all tests of this folder."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

import nnunetv2_s2ca
from nnunetv2_s2ca.synthetic.brats import write_brats2019
from tests.segmentation.tiny_model import CHANNELS, SPACING, provide_trainer, write_model

SHAPE = (32, 38, 30)


@pytest.fixture(autouse=True)
def _no_stream_of_a_former_command(monkeypatch):
    monkeypatch.setattr(logging.getLogger("nnunetv2_s2ca"), "handlers", [])


@pytest.fixture(scope="package")
def place(tmp_path_factory):
    """A folder with nnU-Net's trainers and results; both are set."""
    folder = tmp_path_factory.mktemp("segmentation")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("nnUNet_extTrainer", str(provide_trainer(folder)))
        patch.setenv("nnUNet_results", str(folder / "results"))
        patch.delenv("nnUNet_raw", raising=False)
        patch.delenv("nnUNet_preprocessed", raising=False)
        yield folder


@pytest.fixture(scope="package")
def model(place) -> Path:
    """A trained model of two folds."""
    return write_model(place / "results")


@pytest.fixture(scope="package")
def patient(place) -> Path:
    """The folder of a patient, named as in BraTS 2019."""
    (folder,) = write_brats2019(
        place / "patients", patients=1, seed=3, shape=SHAPE, spacing=SPACING
    )
    return folder


@pytest.fixture
def scans(patient) -> dict[str, Path]:
    """The patient's files by sequence."""
    return scans_in(patient)


@pytest.fixture(scope="package")
def straight(model, patient, place) -> Path:
    """The patient's segmentation, from the files as they are."""
    output = place / "straight.nii.gz"
    nnunetv2_s2ca.segment(scans_in(patient), output, model=model, device="cpu")
    return output


def scans_in(folder: Path) -> dict[str, Path]:
    return {name.lower(): folder / f"{folder.name}_{name.lower()}.nii.gz" for name in CHANNELS}
