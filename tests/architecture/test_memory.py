"""Memory of both passes on a processor at the patch of the paper, counted without computing."""

from __future__ import annotations

import pytest
import torch

from benchmarks.memory import KeptForBackward, LiveMemory
from benchmarks.tracing import no_values, without_values
from nnunetv2_s2ca import S2CANet
from nnunetv2_s2ca.architecture import global_branch, shifted_mlp
from nnunetv2_s2ca.architecture.global_branch import GlobalBranch
from nnunetv2_s2ca.architecture.shifted_mlp import ShiftedMLP


def test_a_training_step_at_128_takes_no_more_memory_than_is_known():
    """The maps before the instance norms, the outputs of the blocks, and the offsets."""
    network = S2CANet(4, 3, patch_size=(128, 128, 128)).train()
    with no_values():
        without_values(network, "cpu")
        x = torch.empty(1, 4, 128, 128, 128)
        with LiveMemory([x, *network.parameters()]) as live:
            outputs = network(x)
            assert live.nbytes < 1.9e9
            sum(output.square().mean() for output in outputs).backward()
            assert live.peak < 2.1e9


def test_a_forward_pass_at_128_takes_no_more_memory_than_is_known():
    """The peak is in the skips: the offsets at 64³, the output of their convolution, 9 taps."""
    network = S2CANet(4, 3, patch_size=(128, 128, 128)).eval()
    with no_values(), torch.no_grad():
        without_values(network, "cpu")
        x = torch.empty(1, 4, 128, 128, 128)
        with LiveMemory([x, *network.parameters()]) as live:
            network(x)
            assert live.peak < 0.62e9


@pytest.mark.parametrize(
    ("kind", "pixels", "maps"),
    [
        (GlobalBranch, 3 * 6**2, global_branch.KEPT_MAPS),
        (ShiftedMLP, 3 * 6**3, shifted_mlp.KEPT_MAPS),
    ],
)
def test_what_a_branch_would_keep_is_known(kind, pixels, maps):
    sizes = {"map_size": (6, 6, 6)} if kind is GlobalBranch else {}
    branch = kind(8, 8, embed_dim=128, depth=3, **sizes)
    x = torch.randn(1, 8, 6, 6, 6)
    kept = KeptForBackward([x, *branch.parameters()])
    with kept:
        branch(x)
    assert kept.nbytes == pytest.approx(4 * maps * 3 * 128 * pixels, rel=0.1)
