"""Where the networks of the accuracy rows start."""

from __future__ import annotations

import torch

from benchmarks.accuracy.network_options import start_from_baseline
from nnunetv2_s2ca import S2CANet
from tests.training.test_initialisation import SIZE, s2ca_net


def test_a_network_that_starts_from_the_baseline_is_its_residual_blocks():
    network = s2ca_net(3).eval()
    start_from_baseline(network)
    blocks = S2CANet(
        *(4, 3),
        patch_size=SIZE,
        deep_supervision=True,
        **{"encoder_branches": (), "decoder_branches": (), "deformable_skips": False},
    ).eval()
    weights = network.state_dict()
    blocks.load_state_dict({name: weights.get(name, x) for name, x in blocks.state_dict().items()})
    blocks.bottleneck = BottomAlone()
    x = torch.randn(1, 4, *SIZE)
    with torch.no_grad():
        for ours, theirs in zip(network(x), blocks(x), strict=True):
            torch.testing.assert_close(ours, theirs)


class BottomAlone(torch.nn.Module):
    def forward(self, levels):
        return levels[-1]


def test_all_weights_learn_from_the_baseline():
    network = s2ca_net(3).train()
    start_from_baseline(network)
    optimizer = torch.optim.SGD(network.parameters(), 1.0)
    for _ in range(2):  # the first step moves the last layers alone
        optimizer.zero_grad()
        torch.manual_seed(1)
        sum(output.square().mean() for output in network(torch.randn(1, 4, *SIZE))).backward()
        optimizer.step()
    still = [name for name, x in network.named_parameters() if x.grad.abs().max() == 0]
    assert not [name for name in still if "pointwise.bias" not in name]
