"""The formulas as other devices get them: on a CUDA device that is not there, in half precision.

Fake tensors on "cuda" show every operation of a pass, without a card. Numbers are those of the same
formulas on a processor.
"""

from __future__ import annotations

import pytest
import torch

from benchmarks.cuda_trace import trace_prediction, trace_training
from benchmarks.tracing import Launches, cuda_can_be_traced
from tests.architecture.test_s2ca_net import loss_of, small_input, small_network

LOSS_SCALE = 65_536  # with which PyTorch's GradScaler begins

needs_cuda_build = pytest.mark.skipif(
    not cuda_can_be_traced(), reason="this build of PyTorch does not know CUDA"
)
SHALLOW = {"encoder_branches": ((32, 1), (32, 1)), "decoder_branches": ((32, 1), (32, 1))}


@pytest.fixture(scope="module")
def at_128():
    """Forward and backward pass at 128³, batch 1, fp16 autocast."""
    return trace_training((128, 128, 128), 1)


def assert_stays_on_the_device(*traces: Launches) -> None:
    for trace in traces:
        assert trace.host_copies == []
        assert trace.synchronisations == []


@needs_cuda_build
def test_a_training_step_stays_on_the_device(at_128):
    assert_stays_on_the_device(*at_128)


@needs_cuda_build
def test_a_training_step_launches_little(at_128):
    forward, backward = at_128
    assert forward.total.launches <= 1_400
    assert backward.total.launches <= 2_150


@needs_cuda_build
def test_a_training_step_moves_little(at_128):
    forward, backward = at_128
    assert forward.total.nbytes <= 14.0e9
    assert backward.total.nbytes <= 23.5e9


@needs_cuda_build
@pytest.mark.parametrize("patch", [(16, 16, 16), (8, 24, 16)])
def test_full_precision_stays_on_the_device(patch):
    assert_stays_on_the_device(*trace_training(patch, 2, autocast=False, **SHALLOW))


@needs_cuda_build
def test_prediction_stays_on_the_device():
    assert_stays_on_the_device(trace_prediction((16, 16, 16), 1, **SHALLOW))


@pytest.fixture(scope="module")
def exact():
    """Logits and gradients by the formulas in fp64."""
    return logits_and_gradients(torch.float64)


def logits_and_gradients(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """In fp64, or with autocast to a half precision; all gradients as one vector."""
    half = dtype.itemsize == 2
    network, x = small_network().train(), small_input(batch=2)
    if not half:
        network, x = network.to(dtype), x.to(dtype)
    torch.manual_seed(0)  # of stochastic depth
    with torch.autocast("cpu", dtype if half else torch.bfloat16, enabled=half):
        outputs = network(x)
    (loss_of(y.double() for y in outputs) * LOSS_SCALE).backward()
    gradients = [p.grad.double().flatten() / LOSS_SCALE for p in network.parameters()]
    return torch.cat([y.double().flatten() for y in outputs]).detach(), torch.cat(gradients)


@pytest.mark.parametrize(
    ("dtype", "logits_within", "gradients_within"),
    [(torch.float16, 0.01, 0.03), (torch.bfloat16, 0.06, 0.2)],
    ids=["fp16", "bf16"],
)
def test_half_precision_is_close_to_fp64_on_both_paths(
    dtype, logits_within, gradients_within, exact, request
):
    errors = []
    for way in ("as_large_maps", "as_other_devices"):
        request.getfixturevalue(way)
        got = logits_and_gradients(dtype)
        assert all(values.isfinite().all() for values in got)
        errors.append([float((a - b).norm() / b.norm()) for a, b in zip(got, exact, strict=True)])
    for fast, plain, within in zip(*errors, (logits_within, gradients_within), strict=True):
        assert max(fast, plain) < within
        assert 0.5 < fast / plain < 2
