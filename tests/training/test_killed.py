"""A training that is killed outright goes on from its last checkpoint."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from nnunetv2.run import run_training

from nnunetv2_s2ca.training import TRAINERS
from tests.training import tiny_dataset

CHECKOUT = Path(__file__).parents[2]

# Trains with a checkpoint after every epoch, until it says that it may be killed.
TRAIN = """
import json, sys, time
from pathlib import Path
import torch
from nnunetv2_s2ca.training import TRAINERS

preprocessed, place = Path(sys.argv[1]), sys.argv[2]
plans = json.loads((preprocessed / "nnUNetPlans.json").read_text())
trainer = TRAINERS["nnUNetTrainerS2CA_B"](
    plans={**plans, "continue_training": False}, configuration="3d_fullres", fold=0,
    dataset_json=json.loads((preprocessed / "dataset.json").read_text()),
    device=torch.device("cpu"),
)
trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = 2, 1
trainer.num_epochs, trainer.save_every = 5, 1

def wait_for_death():
    print("KILL ME", flush=True)
    time.sleep(600)

step, save = trainer.train_step, torch.save

def die_in_epoch(batch):
    if trainer.current_epoch == 2 and trainer.iteration == 1:
        wait_for_death()
    return step(batch)

def die_in_checkpoint(checkpoint, filename):
    if trainer.current_epoch == 2 and "latest" in str(filename):
        Path(filename).write_bytes(b"half of a checkpoint")
        wait_for_death()
    return save(checkpoint, filename)

if place == "epoch":
    trainer.train_step = die_in_epoch
else:
    torch.save = die_in_checkpoint
trainer.run_training()
"""


@pytest.mark.slow
@pytest.mark.parametrize("place", ["epoch", "checkpoint"])
def test_killed_training_resumes_from_the_last_whole_epoch(place, nnunet_folders):
    dataset = tiny_dataset.make_dataset(nnunet_folders, shape=(32, 32, 32))
    tiny_dataset.preprocess(nnunet_folders, dataset)
    preprocessed = nnunet_folders / "nnUNet_preprocessed" / dataset
    with subprocess.Popen(
        [sys.executable, "-c", TRAIN, preprocessed, place],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert any("KILL ME" in line for line in process.stdout)
        process.kill()

    plans = json.loads((preprocessed / "nnUNetPlans.json").read_text())
    trainer = TRAINERS["nnUNetTrainerS2CA_B"](
        plans={**plans, "continue_training": True},
        configuration="3d_fullres",
        fold=0,
        dataset_json=json.loads((preprocessed / "dataset.json").read_text()),
        device=torch.device("cpu"),
    )
    trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = 2, 1
    trainer.num_epochs = 3
    run_training.maybe_load_checkpoint(trainer, True, False)
    # epochs 0 and 1 were saved whole; the third is all that is lost
    assert trainer.current_epoch == 2
    trainer.run_training()
    assert Path(trainer.output_folder, "checkpoint_final.pth").exists()
    assert len(trainer.logger.get_value("train_losses", step=None)) == 3
