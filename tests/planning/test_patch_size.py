"""Strides and patches for images of any shape and spacing."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunetv2_s2ca.architecture.sizes import check_sizes
from nnunetv2_s2ca.planning.patch_size import largest_patch, smaller_patch, strides_for

FEATURES = (16, 32, 64, 128)
TWOS = [[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 2]]
axes = st.integers(2, 700)
millimetres = st.floats(0.1, 20)


@pytest.mark.parametrize(
    ("spacing", "strides"),
    [
        ((1, 1, 1), TWOS),
        ((0.9, 1.1, 1.7), TWOS),
        ((5, 1, 1), [[1, 1, 1], [1, 2, 2], [1, 2, 2], [2, 2, 2]]),
        ((2.5, 1, 1), [[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2]]),
        ((40, 1, 1), [[1, 1, 1], [1, 2, 2], [1, 2, 2], [1, 2, 2]]),
    ],
)
def test_coarse_axes_are_pooled_once_the_others_have_become_as_coarse(spacing, strides):
    assert strides_for(spacing) == strides


@pytest.mark.parametrize(
    ("shape", "patch"),
    [
        # medians of BraTS editions and of MSD Task01 after nnU-Net's crop, roughly
        ((138, 170, 138), (128, 128, 128)),
        ((140, 171, 137), (128, 128, 128)),
        # smaller heads, padded by a few voxels so that the weights are the same
        ((120, 150, 113), (128, 128, 128)),
        ((155, 240, 240), (128, 128, 128)),
        # axes that are much shorter, and lengths that recur
        ((90, 150, 150), (96, 128, 128)),
        ((36, 40, 32), (40, 40, 40)),
        ((60, 70, 80), (80, 80, 80)),
        ((3, 3, 3), (16, 16, 16)),
    ],
)
def test_patches_are_cubes_of_128_where_images_are_as_long_and_of_few_lengths_else(shape, patch):
    assert largest_patch(shape, TWOS) == patch


def test_few_slices_make_a_flat_patch():
    strides = strides_for((5, 1, 1))
    assert largest_patch((20, 320, 320), strides) == (24, 128, 128)


@given(st.tuples(axes, axes, axes), st.tuples(millimetres, millimetres, millimetres))
def test_the_network_can_be_built_for_every_patch_down_to_the_smallest(shape, spacing):
    strides = strides_for(spacing)
    patch = largest_patch(shape, strides)
    voxels = math.inf
    while patch is not None:
        check_sizes(patch, strides, FEATURES)
        assert max(patch) <= 128
        assert math.prod(patch) < voxels
        voxels = math.prod(patch)
        patch = smaller_patch(patch, strides)


def test_equal_axes_stay_equal_when_memory_is_less():
    patch, seen = (128, 128, 128), []
    while patch is not None:
        seen.append(patch)
        patch = smaller_patch(patch, TWOS)
    assert [len(set(size)) for size in seen] == [1] * 10
    assert all(big[0] > small[0] for big, small in itertools.pairwise(seen))
    assert seen[-1] == (16, 16, 16)


def test_the_longest_axes_give_way_first():
    assert smaller_patch((64, 128, 128), TWOS) == (64, 112, 112)
