"""Settings of the demo."""

from __future__ import annotations

from dataclasses import dataclass

from nnunetv2_s2ca.core.errors import UserError

NUM_FOLDS = 5  # nnU-Net's


@dataclass(frozen=True)
class DemoSettings:
    """Settings of the demo, with the defaults of `s2ca demo`.

    Attributes:
        patients: Number of synthetic patients to train on, at least five.
        held_out: Number of synthetic patients to predict.
        folds: Folds of the five-fold cross-validation to train and to ensemble.
        trainer: Name for `nnUNetv2_train -tr`.
        shape: Voxels (X, Y, Z) of a patient.
        spacing: In mm.
        seed: Seed of the patients.
        device: "cpu", "cuda" or "mps".

    Raises:
        UserError: There are too few patients, or a fold is unknown or repeated.
    """

    patients: int = 20
    held_out: int = 8
    # two long trainings learn more than five short ones in the same time
    folds: tuple[int, ...] = (0, 1)
    trainer: str = "nnUNetTrainerS2CA_demo"
    shape: tuple[int, int, int] = (36, 44, 36)
    spacing: float = 5.0
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self):
        if self.patients < NUM_FOLDS:
            raise UserError(
                f"{self.patients} patients cannot be split into five folds; expected at least 5"
            )
        if self.held_out < 1:
            raise UserError("no patient is held out; expected at least 1 to predict")
        once = len(set(self.folds)) == len(self.folds)
        if not self.folds or not once or not set(self.folds) <= set(range(NUM_FOLDS)):
            raise UserError(
                f"the folds are {self.folds}; expected some of 0, 1, 2, 3, 4, each once"
            )
