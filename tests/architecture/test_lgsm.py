"""The LGSM is the sum of its branches."""

from __future__ import annotations

import pytest
import torch

from nnunetv2_s2ca.architecture.global_branch import GlobalBranch
from nnunetv2_s2ca.architecture.lgsm import LGSM
from nnunetv2_s2ca.architecture.residual_block import ResidualBlock


@pytest.fixture
def x() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(2, 6, 8, 8, 8)


def test_in_the_encoder_the_global_branch_sees_the_stem_feature(x, both_sizes):
    local = ResidualBlock(6, 8, stride=(2, 2, 2))
    far = GlobalBranch(8, 8, map_size=(4, 4, 4), embed_dim=16, depth=1)
    expected, stem = local.formula(x)
    torch.testing.assert_close(LGSM(local, far).encode(x), expected + far(stem))


def test_in_the_decoder_the_global_branch_sees_what_the_block_sees(x, both_sizes):
    local = ResidualBlock(6, 8)
    far = GlobalBranch(6, 8, map_size=(8, 8, 8), embed_dim=16, depth=1)
    torch.testing.assert_close(LGSM(local, far).decode(x), local.formula(x)[0] + far(x))
