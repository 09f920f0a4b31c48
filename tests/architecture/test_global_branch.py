"""The LGSM's global branch; the golden outputs hold its numbers."""

from __future__ import annotations

import torch

from nnunetv2_s2ca.architecture.global_branch import ConvFormerBlock, GlobalBranch


def test_axes_of_one_length_share_their_projections():
    branch = GlobalBranch(4, 4, map_size=(4, 6, 4), embed_dim=16, depth=1)
    assert sorted(branch.squeeze) == sorted(branch.expand) == ["4", "6"]
    assert branch.squeeze["6"].weight.shape == (4, 24, 1, 1)


def test_planes_of_any_size_come_back_as_a_map():
    branch = GlobalBranch(4, 7, map_size=(2, 4, 6), embed_dim=16, depth=1)
    assert branch(torch.randn(2, 4, 2, 4, 6)).shape == (2, 7, 2, 4, 6)


def test_a_new_block_is_close_to_the_identity():
    torch.manual_seed(0)
    block = ConvFormerBlock(16)
    x = torch.randn(2, 16, 5, 4)
    assert (block(x) - x).abs().max() < 1e-3
    assert not torch.equal(block(x), x)


def test_mlp_and_channel_attention_start_small_with_biases_of_zero():
    torch.manual_seed(0)
    block = ConvFormerBlock(64)
    channel = block.token_mixer[0].channel
    for layer in (block.mlp.fc1, block.mlp.fc2, channel.reduce, channel.expand):
        assert abs(layer.weight.std() - 0.02) < 0.002
    assert not block.mlp.fc1.bias.any()
    assert not block.mlp.fc2.bias.any()


def test_every_voxel_sees_every_other():
    torch.manual_seed(0)
    branch = GlobalBranch(4, 4, map_size=(4, 4, 4), embed_dim=16, depth=1)
    x = torch.randn(1, 4, 4, 4, 4).requires_grad_()
    branch(x)[0, :, 0, 0, 0].sum().backward()
    assert (x.grad.abs().sum(1) > 0).all()
