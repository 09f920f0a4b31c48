"""Up-sampling and merging of levels."""

from __future__ import annotations

import torch

from nnunetv2_s2ca.architecture.merging import merge, upsample


def test_up_sampling_is_trilinear_between_voxel_centres():
    x = torch.arange(4.0).reshape(1, 1, 4, 1, 1)
    up = upsample(x, (8, 2, 2))[0, 0, :, 0, 0]
    torch.testing.assert_close(up, torch.tensor([0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]))


def test_the_gated_skip_connection_comes_first():
    skip, relevance, below = (
        torch.ones(2, 3, 4, 4, 4),
        torch.rand(2, 1, 2, 2, 2),
        torch.rand(2, 5, 2, 2, 2),
    )
    merged = merge(skip, relevance, below)
    assert merged.shape == (2, 8, 4, 4, 4)
    torch.testing.assert_close(merged[:, :3], upsample(relevance, (4, 4, 4)).expand(2, 3, 4, 4, 4))
    torch.testing.assert_close(merged[:, 3:], upsample(below, (4, 4, 4)))
