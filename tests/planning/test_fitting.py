"""What is advised for a card of some memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nnunetv2_s2ca.planning.fitting import TRAINERS, advise, fit_to_memory
from nnunetv2_s2ca.planning.memory import DEFAULT_TARGET_GB, PAPER, needed_gb
from nnunetv2_s2ca.planning.patch_size import LENGTHS
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


def test_a_smaller_card_keeps_the_patch_and_computes_parts_twice():
    advice = advise(8)
    assert "nnUNetTrainerS2CA_S (" in advice.text
    assert advice.remedy.endswith(
        "-gpu_memory_target 8.0`, which makes patches of 128×128×128 and computes parts of the "
        "network twice"
    )


def test_a_much_smaller_card_is_told_the_patch_that_the_planner_will_make():
    size = "×".join(map(str, fit_to_memory(PAPER, 4).patch_size))
    assert "128" not in size
    assert f"which makes patches of {size}" in advise(4).remedy


def test_a_card_that_is_too_small_is_told_to_leave_it():
    advice = advise(1)
    assert "too small" in advice.text
    assert "-device cpu" in advice.remedy


@pytest.mark.parametrize("memory", [2, 3, 6, 9, 11, 20])
def test_the_patch_fits_and_the_next_larger_would_not(memory):
    step = fit_to_memory(PAPER, memory)
    assert needed_gb(step) <= memory
    larger = [
        replace(PAPER, patch_size=(length,) * 3, checkpointing=checkpointing)
        for length in LENGTHS
        for checkpointing in (False, True)
        if length > step.patch_size[0] or (length == step.patch_size[0] and step.checkpointing)
    ]
    too_large = [other for other in larger if other != step]
    assert all(needed_gb(other) > memory for other in too_large)
