"""The learning rate over a run, and after an interruption."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nnunetv2_s2ca.training import TRAINERS
from nnunetv2_s2ca.training.lr_schedule import SHORT, WarmupPlateauCosineLR, learning_rate

SMALL = (32, 32, 32)


# epochs of the paper's 400; cosine from epoch 55 to 400
@pytest.mark.parametrize(
    ("epoch", "expected"),
    [
        (0, 1e-6),
        (2.5, (1e-6 + 1e-3) / 2),
        (5, 1e-3),
        (30, 1e-3),
        (55, 1e-3),
        (55 + 345 / 2, (1e-6 + 1e-3) / 2),
        (55 + 345 / 3, 1e-6 + (1e-3 - 1e-6) * 3 / 4),
        (400, 1e-6),
    ],
)
def test_learning_rate_is_the_papers(epoch, expected):
    assert math.isclose(learning_rate(epoch / 400, max_lr=1e-3), expected, rel_tol=1e-9)


@pytest.mark.parametrize("num_epochs", [5, 50, 400, 1000])
def test_schedule_keeps_the_papers_proportions(num_epochs):
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], 1e-3)
    schedule = WarmupPlateauCosineLR(optimizer, num_epochs)
    for part in (0, 0.01, 5 / 400, 0.1, 0.5, 1):
        schedule.step(part * num_epochs)
        assert math.isclose(
            optimizer.param_groups[0]["lr"], learning_rate(part, max_lr=1e-3), rel_tol=1e-9
        )
        assert schedule.get_last_lr() == [optimizer.param_groups[0]["lr"]]


def test_short_runs_warm_up_for_a_tenth_and_have_no_plateau():
    rates = [learning_rate(p, max_lr=3e-3, phases=SHORT) for p in (0, 0.05, 0.1, 0.55, 1)]
    assert rates == pytest.approx([1e-6, (1e-6 + 3e-3) / 2, 3e-3, (1e-6 + 3e-3) / 2, 1e-6])


def test_short_trainer_follows_its_phases(make_trainer):
    trainer = make_trainer(TRAINERS["nnUNetTrainerS2CA_short"], prepared=False, short=False)
    trainer.network = torch.nn.Linear(1, 1)
    optimizer, schedule = trainer.configure_optimizers()
    schedule.step(0.1 * trainer.num_epochs)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(3e-3)
    schedule.step(0.55 * trainer.num_epochs)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1.5e-3, rel=1e-3)


@given(st.floats(0, 1), st.floats(0, 1))
def test_learning_rate_rises_then_falls_within_its_bounds(a, b):
    low, high = sorted((a, b))
    first, second = (learning_rate(p, max_lr=1e-3) for p in (low, high))
    assert 1e-6 * (1 - 1e-9) <= first <= 1e-3
    if high <= 55 / 400:
        assert first <= second
    if low >= 5 / 400:
        assert first >= second


def test_trainer_sets_the_learning_rate_of_each_iteration(make_trainer):
    trainer = make_trainer(TRAINERS["nnUNetTrainerS2CA_5epochs"], shape=SMALL)
    rates = _record_rates(trainer, iterations=4)
    expected = [learning_rate(i / 20, max_lr=1e-3) for i in range(20)]
    assert rates == pytest.approx(expected)
    # and nnU-Net's progress plot shows each epoch's first
    logged = trainer.logger.get_value("lrs", step=None)
    assert logged == pytest.approx(expected[::4])


def test_resumed_run_repeats_the_uninterrupted_one(make_trainer, seed):
    whole = _prepare(make_trainer(TRAINERS["nnUNetTrainerS2CA_B"], shape=SMALL), seed)
    whole_rates = _record_rates(whole, iterations=2, network=True)
    expected = {k: v.clone() for k, v in whole.network.state_dict().items()}

    first = _prepare(make_trainer(TRAINERS["nnUNetTrainerS2CA_B"]), seed)
    first.on_epoch_end = _stop_after(first, epochs=2)
    with pytest.raises(KeyboardInterrupt):
        _record_rates(first, iterations=2, network=True)

    second = _prepare(make_trainer(TRAINERS["nnUNetTrainerS2CA_B"], resume=True), seed)
    second.load_checkpoint(f"{second.output_folder}/checkpoint_latest.pth")
    assert second.current_epoch == 2
    rates = _record_rates(second, iterations=2, network=True)
    assert rates == pytest.approx(whole_rates[4:])
    for name, tensor in second.network.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0)


def _prepare(trainer, seed):
    """Three epochs whose data and randomness depend on the epoch alone, saved at each."""
    trainer.num_epochs = 3
    trainer.save_every = 1
    start = trainer.on_epoch_start

    def on_epoch_start():
        seed(trainer.current_epoch)
        start()

    seed(99)
    trainer.on_epoch_start = on_epoch_start
    return trainer


def _stop_after(trainer, *, epochs):
    end = trainer.on_epoch_end

    def on_epoch_end():
        end()
        if trainer.current_epoch == epochs:
            raise KeyboardInterrupt

    return on_epoch_end


def _record_rates(trainer, *, iterations, network=False):
    """Run the training; with a dot in place of the network unless that matters."""
    rates = []
    trainer.num_iterations_per_epoch = iterations
    if not network:
        trainer.build_network_architecture = lambda plans_manager, *args: Dot()
    if not trainer.was_initialized:
        trainer.initialize()
    step = trainer.optimizer.step

    def record(*args, **kwargs):
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        return step(*args, **kwargs)

    trainer.optimizer.step = record
    trainer.run_training()
    return rates


class Dot(torch.nn.Module):
    """One parameter that gives four outputs of the right sizes."""

    def __init__(self):
        super().__init__()
        self.value = torch.nn.Parameter(torch.zeros(1))
        self.decoder = torch.nn.Module()

    def forward(self, x):
        sizes = [[n // 2**level for n in x.shape[2:]] for level in range(4)]
        return [self.value.expand(x.shape[0], 3, *size) for size in sizes]
