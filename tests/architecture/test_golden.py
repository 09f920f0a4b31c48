"""S2CA-Net against outputs of the authors' program."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnunetv2_s2ca import S2CANet
from nnunetv2_s2ca.architecture.attention import AttentionGate, ChannelAttention, SpatialAttention
from nnunetv2_s2ca.architecture.deform_conv import DeformConv3d
from nnunetv2_s2ca.architecture.global_branch import GlobalBranch
from nnunetv2_s2ca.architecture.merging import upsample
from nnunetv2_s2ca.architecture.residual_block import ResidualBlock
from nnunetv2_s2ca.architecture.shifted_mlp import ShiftedMLP
from nnunetv2_s2ca.checkpoints.names import authors_name
from tests import golden


class GatedSkip(AttentionGate):
    """The authors' gate, which hands out the skip connection that it has weighed."""

    def forward(self, gate: Tensor, skip: Tensor) -> Tensor:
        return skip * upsample(super().forward(gate, skip), skip.shape[2:])


MODULES = {
    "attentive_deform_conv": (
        lambda: DeformConv3d(24, reduced_channels=8),
        lambda: (3 * golden.golden_input((2, 24, 8, 9, 10)),),
    ),
    "vas_mlp": (
        lambda: ShiftedMLP(20, 12, embed_dim=16, depth=2, swap_axes=True),
        lambda: (golden.golden_input((2, 20, 6, 6, 6)),),
    ),
    "lgsm_global_branch": (
        lambda: GlobalBranch(12, 10, map_size=(8, 8, 8), embed_dim=32, depth=2),
        lambda: (golden.golden_input((2, 12, 8, 8, 8)),),
    ),
    "residual_block": (
        lambda: ResidualBlock(6, 10, stride=(2, 2, 2)),
        lambda: (golden.golden_input((2, 6, 8, 10, 12)),),
    ),
    "attention_gate": (
        lambda: GatedSkip(16, 8, stride=(2, 2, 2)),
        lambda: (
            golden.golden_input((2, 16, 4, 5, 6)),
            golden.golden_input((2, 8, 8, 10, 12), offset=1),
        ),
    ),
    "channel_attention": (
        lambda: ChannelAttention(48),
        lambda: (golden.golden_input((2, 48, 4, 5, 6)),),
    ),
    "spatial_attention": (
        lambda: SpatialAttention(3, kernel_size=7),
        lambda: (golden.golden_input((2, 5, 8, 9, 10)),),
    ),
}

# where in the network these modules stand, whose place decides their names
PLACES = {
    "attentive_deform_conv": "skips.deform_conv.",
    "vas_mlp": "bottleneck.shifted_mlp.",
    "lgsm_global_branch": "encoder.branches.2.",
    "residual_block": "encoder.stages.1.",
    "attention_gate": "decoder.gates.0.",
    "channel_attention": "bottleneck.channel_attention.",
    "spatial_attention": "bottleneck.spatial_attention.",
}

RELEASED_BRANCHES = {
    "encoder_branches": ((360, 6), (512, 2)),
    "decoder_branches": ((360, 6), (512, 2)),
}


@pytest.mark.parametrize("way", ["as small maps", "as_large_maps", "as_other_devices"])
@pytest.mark.parametrize("name", MODULES)
def test_module_agrees_with_authors_program(name, way, request):
    if way != "as small maps":
        request.getfixturevalue(way)
    make_module, make_inputs = MODULES[name]
    module = with_golden_weights(make_module(), name)
    with torch.no_grad():
        output = module(*make_inputs()).numpy()
    expected = golden.outputs()[f"{name}/output"]
    assert output.shape == expected.shape
    assert np.abs(output - expected).max() < 1e-4 * expected.std()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "branches"), [("s2ca_net", {}), ("s2ca_net_release", RELEASED_BRANCHES)]
)
def test_network_agrees_with_authors_program(name, branches):
    network = S2CANet(4, 4, patch_size=(128, 128, 128), swap_axes=True, **branches)
    network = with_golden_weights(network, name)
    with torch.no_grad():
        heads = network(golden.golden_input((1, 4, 128, 128, 128)))
    expected = golden.outputs()
    h, w, d = expected[f"{name}/voxels"].T
    for i, head in enumerate(heads):
        full = F.interpolate(head, size=(128, 128, 128), mode="trilinear")[0]
        std = expected[f"{name}/head{i}/std"]
        samples = full[:, h, w, d].numpy()
        error = np.abs(samples - expected[f"{name}/head{i}/samples"]) / std[:, None]
        # the border rule of the deformable convolution is a jump, which rounding can trigger
        assert np.quantile(error, 0.99) < 1e-3
        assert error.max() < 0.05
        assert np.abs(full.mean((1, 2, 3)).numpy() - expected[f"{name}/head{i}/mean"]).max() < 1e-3
        np.testing.assert_allclose(full.std((1, 2, 3), correction=0).numpy(), std, rtol=1e-3)


def with_golden_weights(module: nn.Module, name: str) -> nn.Module:
    place = PLACES.get(name, "")
    theirs = {f"{authors_name(place)}{key}": w for key, w in golden.state_dict(name).items()}
    module.load_state_dict({key: theirs[authors_name(place + key)] for key in module.state_dict()})
    return module.eval()
