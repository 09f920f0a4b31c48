"""Every kind of network, with its recipe, can learn one synthetic patient by heart."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nnunetv2_s2ca.synthetic.patient import MODALITIES, make_patient
from nnunetv2_s2ca.training import TRAINERS

MOST_ITERATIONS = 300
CHECK_EVERY = 10
PATCH = (32, 32, 32)
# those of other lengths differ in nothing else
NAMES = [name for name in TRAINERS if not name.endswith(("epoch", "epochs", "_demo"))]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_trainer_learns_a_patient_by_heart(name, make_trainer, seed):
    seed()
    trainer = make_trainer(TRAINERS[name], shape=PATCH)
    # the schedule in the proportions of a whole run
    trainer.num_epochs, trainer.num_iterations_per_epoch = 1, MOST_ITERATIONS
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
                break
    assert dice > 0.9


def _batch_of_a_patient(trainer) -> dict:
    """A whole patient of 6 mm voxels, normalised as nnU-Net does, and its targets."""
    patient = make_patient(2, shape=PATCH, spacing=6.0, grade="HGG")
    volumes = np.stack([patient.images[m] for m in MODALITIES]).astype(np.float32)
    for volume in volumes:
        volume -= volume.mean()
        volume /= volume.std()
    labels = np.array([0, 2, 1, 0, 3])[patient.segmentation]
    assert (labels > 0).sum() > 100
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
