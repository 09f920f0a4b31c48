"""Two processes that train one S2CA-Net through the trainer, by gloo on the CPU."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from nnunetv2_s2ca.training import TRAINERS
from tests.training import tiny_dataset


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nnUNetTrainerS2CA", "nnUNetTrainerS2CA_noWDS"])
def test_two_processes_take_a_step_and_stay_equal(name, nnunet_folders):
    dataset = tiny_dataset.make_dataset(nnunet_folders, shape=(32, 32, 32))
    tiny_dataset.preprocess(nnunet_folders, dataset)
    context = mp.start_processes(
        _train, (name, nnunet_folders, dataset), nprocs=2, start_method="spawn", join=False
    )
    assert context is not None
    while not context.join(timeout=300):
        pass
    first, second = (torch.load(nnunet_folders / f"weights_{rank}.pth") for rank in range(2))
    for key, tensor in first.items():
        if "running_" not in key:  # batch norm is not synchronised on the CPU
            assert torch.equal(tensor, second[key]), key


def _train(rank: int, name: str, folder: Path, dataset: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'rendezvous'}", rank=rank, world_size=2
    )
    # nnU-Net trains several processes on CUDA alone; what it does for CUDA is left out here
    from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as nnUNetModule

    nnUNetModule.DDP = lambda network, device_ids: DistributedDataParallel(
        network, find_unused_parameters=False
    )
    torch.nn.SyncBatchNorm.convert_sync_batchnorm = lambda network: network
    preprocessed = folder / "nnUNet_preprocessed" / dataset
    plans = json.loads((preprocessed / "nnUNetPlans.json").read_text())
    trainer = TRAINERS[name](
        plans={**plans, "continue_training": False},
        configuration="3d_fullres",
        fold=0,
        dataset_json=json.loads((preprocessed / "dataset.json").read_text()),
        device=torch.device("cpu"),
    )
    trainer.device, trainer.grad_scaler = torch.device("cpu"), None
    trainer._do_i_compile = partial(bool, False)
    trainer.initialize()
    trainer.num_iterations_per_epoch = 2  # the second finds out about parameters without gradient
    trainer.num_epochs = 1
    trainer.dataloader_train, _ = trainer.get_dataloaders()
    trainer.set_deep_supervision_enabled(True)
    trainer.on_train_epoch_start()
    for _ in range(2):
        trainer.train_step(next(trainer.dataloader_train))
    torch.save(trainer.network.module.state_dict(), folder / f"weights_{rank}.pth")
    dist.destroy_process_group()
