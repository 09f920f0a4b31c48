"""Trainers on tiny datasets, for the tests."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch

from nnunetv2_s2ca.training.network_from_plans import PLANS_KEY
from tests.training import tiny_dataset

SMALL_BRANCHES = {
    "encoder_branches": ((32, 2), (48, 1)),
    "decoder_branches": ((32, 1), (48, 1)),
}


@pytest.fixture
def make_trainer(nnunet_folders):
    """Factory of trainers on a tiny dataset, for the CPU.

    With one iteration an epoch if `short`, and small global branches if `small`: these hold nearly
    all parameters, which take longer to initialise and to save than to train.
    """

    def make(
        trainer_class,
        *,
        configuration="3d_fullres",
        prepared=True,
        resume=False,
        short=True,
        small=False,
        **dataset,
    ):
        name = "Dataset777_Tiny"
        preprocessed = nnunet_folders / "nnUNet_preprocessed" / name
        if not preprocessed.exists():
            tiny_dataset.make_dataset(nnunet_folders, **dataset)
            if prepared:
                tiny_dataset.preprocess(nnunet_folders, name, configuration)
        plans = json.loads((preprocessed / "nnUNetPlans.json").read_text())
        plans["continue_training"] = resume
        if small:
            own = trainer_class.network_arguments
            plans["configurations"][configuration][PLANS_KEY] = {**SMALL_BRANCHES, **own}
        trainer = trainer_class(
            plans=plans,
            configuration=configuration,
            fold=0,
            dataset_json=json.loads((preprocessed / "dataset.json").read_text()),
            device=torch.device("cpu"),
        )
        if short:
            trainer.num_iterations_per_epoch = 1
            trainer.num_val_iterations_per_epoch = 1
        return trainer

    return make


@pytest.fixture
def seed():
    """Call it to make what follows repeatable."""

    def set_seed(value: int = 0) -> None:
        random.seed(value)
        np.random.seed(value)
        torch.manual_seed(value)

    return set_seed
