"""Triton's deformable convolution without a card: interpreted, compiled, and switched off."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from nnunetv2_s2ca.architecture import fused
from nnunetv2_s2ca.architecture.fused import kernels

triton = pytest.importorskip("triton")

from benchmarks.triton_kernels import compile_kernel  # noqa: E402 - needs Triton

ROOT = Path(__file__).parents[3]


def run(*command: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_kernel_passes_its_tests_in_tritons_interpreter():
    tests = Path(__file__).with_name("interpreted_deform_conv.py")
    done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests), TRITON_INTERPRET="1")
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert re.search(r"\d\d passed", done.stdout)
    assert "skipped" not in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_kernel_compiles_for_a_card_and_stays_in_registers(direction, capability, tmp_path):
    compiled = compile_kernel(
        direction, capability=capability, dtype="fp16", channels=8, outputs=96, cache=tmp_path
    )
    assert f".target sm_{capability}" in compiled.ptx
    assert compiled.cubin.startswith(b"\x7fELF")
    assert "mma" in compiled.ptx  # products on tensor cores
    assert "ld.global.v4.b32" in compiled.ptx  # eight channels at a time
    assert compiled.shared_bytes <= 99 * 1024  # what the smallest of these cards offer a program
    assert compiled.spilled_bytes == 0
    assert 0 < compiled.registers <= 255


def small_map(*, dtype=torch.float16, channels=8, outputs=96, length=4):
    size = (length,) * 3
    x = torch.empty(1, channels, *size, device="cuda", dtype=dtype)
    offset = torch.empty(1, 81, *size, device="cuda", dtype=dtype)
    return x, offset, torch.empty(outputs, channels * 27, device="cuda")


@pytest.fixture
def on_a_fake_card():
    with FakeTensorMode():
        yield


@pytest.mark.usefixtures("on_a_fake_card")
def test_kernel_is_off_by_default():
    assert not kernels.ON
    assert not fused.sampling_has_kernel(*small_map())


@pytest.mark.usefixtures("on_a_fake_card")
@pytest.mark.parametrize(
    ("arguments", "used"),
    [
        ({}, True),
        ({"dtype": torch.bfloat16}, True),
        ({"dtype": torch.float32, "channels": 16, "outputs": 192}, True),
        ({"dtype": torch.float64}, False),
        ({"channels": 17}, False),
        ({"outputs": 257}, False),
        ({"length": 300}, False),
    ],
)
def test_kernel_is_used_for_maps_that_it_can_take(arguments, used, monkeypatch):
    monkeypatch.setattr(kernels, "ON", True)
    assert fused.sampling_has_kernel(*small_map(**arguments)) == used


@pytest.mark.usefixtures("on_a_fake_card")
def test_kernel_is_not_used_where_determinism_is_asked_for(monkeypatch):
    monkeypatch.setattr(kernels, "ON", True)
    torch.use_deterministic_algorithms(True)
    try:
        assert not fused.sampling_has_kernel(*small_map())
    finally:
        torch.use_deterministic_algorithms(False)


def test_kernel_is_not_used_on_processors(monkeypatch):
    monkeypatch.setattr(kernels, "ON", True)
    x = torch.zeros(1, 8, 2, 2, 2)
    assert not fused.sampling_has_kernel(x, torch.zeros(1, 81, 2, 2, 2), torch.zeros(96, 216))


@pytest.mark.parametrize(
    ("value", "on"), [("1", True), ("True", True), ("t", True), ("0", False), ("", False)]
)
def test_switch_is_read_as_nnunet_reads_its_own(value, on, monkeypatch):
    monkeypatch.setenv(kernels.SWITCH, value)
    assert kernels.switched_on() == on


def test_switch_without_triton_warns_and_stays_off(monkeypatch):
    monkeypatch.setenv(kernels.SWITCH, "1")
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.warns(UserWarning, match="Install Triton, or unset S2CA_TRITON"):
        assert not kernels.switched_on()


@pytest.mark.slow
@pytest.mark.parametrize("value", ["0", "1"])
def test_kernel_is_there_if_and_only_if_it_is_asked_for(value):
    program = (
        "import torch, nnunetv2_s2ca.architecture.fused as f; print(f.kernels.ON, *torch.ops.s2ca)"
    )
    done = run("-c", program, S2CA_TRITON=value)
    on, *operations = done.stdout.split()
    assert on == str(value == "1"), done.stderr
    assert ("deform_conv_triton" in operations) == (value == "1")
