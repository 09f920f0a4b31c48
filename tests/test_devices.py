"""Trials of a small network on devices that are there, broken, or faked."""

from __future__ import annotations

import pytest
import torch

from nnunetv2_s2ca import devices


def test_the_processor_trains_a_small_network():
    assert devices.try_device("cpu") == devices.Trial("cpu", predicts=True, trains=True)


def test_the_trial_runs_all_parts_of_the_network_and_their_gradients(monkeypatch):
    made = []
    real = devices.S2CANet
    monkeypatch.setattr(
        devices, "S2CANet", lambda *args, **kwargs: made.append(real(*args, **kwargs)) or made[-1]
    )
    assert devices.try_device("cpu").trains
    (network,) = made
    assert all(weight.grad is not None for weight in network.decoder.branches.parameters())
    assert network.skips.deform_conv.offset.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("cuda", "mps", "present"),
    [(2, True, ["cuda:0", "cuda:1", "mps", "cpu"]), (0, False, ["cpu"])],
)
def test_all_devices_are_listed(monkeypatch, cuda, mps, present):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert devices.present_devices() == present


def test_a_device_that_is_not_there_is_a_result_and_no_traceback():
    trial = devices.try_device("cuda:7")
    assert not trial.trains
    assert trial.problem
    assert "-device cpu" in trial.remedy


MISSING = "The operator 'aten::{}' is not currently implemented for the MPS device."


def test_mps_without_the_forward_operation_says_what_to_do(monkeypatch):
    def missing(device):
        raise NotImplementedError(MISSING.format("grid_sampler_3d") + "\nmore")

    monkeypatch.setattr(devices, "_forward", missing)
    trial = devices.try_device("mps")
    assert (trial.predicts, trial.trains) == (False, False)
    assert "more" not in trial.problem
    for way in ("update PyTorch", "PYTORCH_ENABLE_MPS_FALLBACK=1", "-device cpu"):
        assert way in trial.remedy


class _NoBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        raise NotImplementedError(MISSING.format("grid_sampler_3d_backward"))


def test_mps_without_the_backward_operation_can_still_predict(monkeypatch):
    monkeypatch.setattr(
        devices, "_forward", lambda device: _NoBackward.apply(torch.ones(2, requires_grad=True))
    )
    trial = devices.try_device("mps")
    assert (trial.predicts, trial.trains) == (True, False)
    assert "its backward pass in 2026" in trial.remedy


@pytest.mark.parametrize(
    ("problem", "remedy"),
    [
        ("CUDA out of memory. Tried to allocate 2 GiB", "nvidia-smi"),
        ("no kernel image is available for execution on the device", "built for this GPU"),
    ],
)
def test_cards_that_fail_get_a_remedy_for_what_failed(monkeypatch, problem, remedy):
    def fail(device):
        raise RuntimeError(problem)

    monkeypatch.setattr(devices, "_forward", fail)
    assert remedy in devices.try_device("cuda:0").remedy


def test_an_output_that_is_not_finite_is_a_failure(monkeypatch):
    monkeypatch.setattr(devices, "_forward", lambda device: torch.tensor([1.0, float("inf")]))
    trial = devices.try_device("cpu")
    assert not trial.predicts
    assert "not finite" in trial.problem
