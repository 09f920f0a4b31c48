"""What is advised for a card of some memory."""

from __future__ import annotations

import re

import pytest

from nnunetv2_s2ca.planning.fitting import TRAINERS, advise, fit_to_memory
from nnunetv2_s2ca.planning.memory import DEFAULT_TARGET_GB, PAPER, needed_gb
from nnunetv2_s2ca.training import TRAINERS as KNOWN


def test_the_trainers_exist_and_have_these_channels():
    for name, features in TRAINERS.items():
        assert KNOWN[name].network_arguments.get("features_per_stage", PAPER.features) == features


def test_a_large_card_takes_every_size():
    advice = advise(80)
    assert all(f"{name} (" in advice.text for name in TRAINERS)
    assert not advice.remedy


def test_the_default_memory_takes_the_papers_network_and_not_the_large_one():
    advice = advise(DEFAULT_TARGET_GB)
    assert "nnUNetTrainerS2CA (" in advice.text
    assert "nnUNetTrainerS2CA_L" not in advice.text


def test_a_smaller_card_is_told_the_patch_that_the_planner_will_make():
    advice = advise(8)
    assert "nnUNetTrainerS2CA_S (" in advice.text
    size = "×".join(map(str, fit_to_memory(PAPER, 8).patch_size))
    assert advice.remedy.endswith(f"-gpu_memory_target 8.0`, which makes patches of {size}")
    (length,) = set(map(int, re.search(r"of (\d+)×(\d+)×(\d+)$", advice.remedy).groups()))
    assert 80 <= length < 128


def test_a_card_that_is_too_small_is_told_to_leave_it():
    advice = advise(1)
    assert "too small" in advice.text
    assert "-device cpu" in advice.remedy


@pytest.mark.parametrize("memory", [1.5, 3, 6, 9, 11, 20])
def test_the_patch_fits_and_the_next_larger_would_not(memory):
    step = fit_to_memory(PAPER, memory)
    assert needed_gb(step) <= memory
    assert step.patch_size == PAPER.patch_size or needed_gb(step) > 0.6 * memory
