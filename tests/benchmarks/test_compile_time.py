"""`python -m benchmarks.compile_time`: what it subtracts, and its table."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import torch

from benchmarks import compile_time
from benchmarks.networks import BASELINE
from nnunetv2_s2ca.architecture.global_branch import ConvFormerBlock
from nnunetv2_s2ca.architecture.shifted_mlp import AxialShiftBlock


def test_first_step_counts_without_what_a_later_one_takes(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda network: network)
    spent = iter([10.0, 110.0, 200.0, 201.5])
    monkeypatch.setattr(compile_time, "_processor_seconds", lambda: next(spent))
    assert compile_time._measure("S2CA-Net-S", (32, 32, 32)) == {"compile_s": 98.5, "step_s": 1.5}


def test_blocks_alone_are_compiled_one_by_one(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda block: compiled.append(type(block)))
    compile_time._measure(compile_time.BY_REGION, (16, 16, 16))
    assert Counter(compiled) == {ConvFormerBlock: 6 + 2 + 4 + 2, AxialShiftBlock: 4}


def test_processor_seconds_are_also_those_of_children():
    before = compile_time._processor_seconds()
    busy = "import time\nwhile time.process_time() < 0.5: pass"
    subprocess.run([sys.executable, "-c", busy], check=True)
    assert compile_time._processor_seconds() - before >= 0.5


def test_table_has_ratios_and_what_failed():
    rows = {
        BASELINE: {"compile_s": 40.0, "step_s": 1.0},
        "S2CA-Net": {"compile_s": 90.0, "step_s": 0.5},
        "S2CA-Net-S": {"error": "stopped after 3600 s"},
    }
    text = compile_time._markdown(rows, (32, 32, 32))
    assert "32×32×32" in text
    assert "| S2CA-Net | 90 | 2.25 | 0.50 |" in text
    assert "| S2CA-Net-S | stopped after 3600 s | | |" in text
