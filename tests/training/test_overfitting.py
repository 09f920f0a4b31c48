"""Every kind of network, with its recipe, can learn one synthetic patient by heart."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nnunetv2_s2ca.synthetic.patient import MODALITIES, make_patient
from nnunetv2_s2ca.training import TRAINERS

MOST_ITERATIONS = 300
CHECK_EVERY = 5
PATCH = (32, 32, 32)
PAPER, SGD = "nnUNetTrainerS2CA", "nnUNetTrainerS2CA_SGD"
# the others differ in length and rate alone
OTHERS = [
    name
    for name in TRAINERS
    if name not in (PAPER, SGD) and not name.endswith(("epoch", "epochs", "_demo", "_short"))
]


@pytest.fixture
def iterations_to_learn(make_trainer, seed):
    """Iterations that a trainer needs for a training Dice over 0.9 in the whole tumour."""

    def count(name: str, *, small: bool = False) -> int:
        seed(1)
        trainer = make_trainer(TRAINERS[name], small=small, shape=PATCH)
        # within the plateau of the paper's schedule; nnU-Net's stays at its initial rate
        trainer.current_epoch, trainer.num_iterations_per_epoch = 100, MOST_ITERATIONS
        trainer.initialize()
        assert tuple(trainer.configuration_manager.patch_size) == PATCH
        batch = _batch_of_a_patient(trainer)
        whole_tumour = batch["target"][0][:, 0] > 0
        dice = 0.0
        for iteration in range(1, MOST_ITERATIONS + 1):
            trainer.train_step(batch)
            if iteration % CHECK_EVERY == 0:
                with torch.no_grad():
                    predicted = trainer.network(batch["data"])[0][:, 0] > 0
                both = (predicted & whole_tumour).sum()
                dice = float(2 * both / (predicted.sum() + whole_tumour.sum()))
                if dice > 0.9:
                    return iteration
        pytest.fail(f"{name}: Dice {dice:.3f} after {MOST_ITERATIONS} iterations")

    return count


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_trainer_learns_a_patient_by_heart(name, iterations_to_learn):
    # fails where it does not; the test below has global branches of full size
    iterations_to_learn(name, small=True)


@pytest.mark.slow
def test_papers_recipe_is_no_slower_than_nnunets(iterations_to_learn):
    assert iterations_to_learn(PAPER) <= iterations_to_learn(SGD)


def _batch_of_a_patient(trainer) -> dict:
    """A patch around a patient's tumour, normalised as nnU-Net does, and its targets."""
    patient = make_patient(2, shape=(64, 64, 64), spacing=3.0, grade="HGG")
    volumes = np.stack([patient.images[m] for m in MODALITIES]).astype(np.float32)
    volumes -= volumes.mean(axis=(1, 2, 3), keepdims=True)
    volumes /= volumes.std(axis=(1, 2, 3), keepdims=True)
    labels = np.array([0, 2, 1, 0, 3])[patient.segmentation]
    centre = np.argwhere(labels).mean(axis=0).round().astype(int)
    start = np.clip(centre - np.array(PATCH) // 2, 0, np.array(labels.shape) - PATCH)
    patch = tuple(slice(at, at + size) for at, size in zip(start, PATCH, strict=True))
    labels, volumes = labels[patch], volumes[(slice(None), *patch)]
    assert 0.02 < (labels > 0).mean() < 0.5
    transform = trainer.get_validation_transforms(
        trainer._get_deep_supervision_scales(),
        regions=trainer.label_manager.foreground_regions,
    )
    sample = transform(
        image=torch.from_numpy(volumes), segmentation=torch.from_numpy(labels[None]).short()
    )
    return {
        "data": sample["image"][None],
        "target": [target[None] for target in sample["segmentation"]],
    }
