"""Compile the Triton kernels for cards that are not there, and read what they take of them."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import triton
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from nnunetv2_s2ca.architecture.fused import deform_conv_kernels as kernels
from nnunetv2_s2ca.architecture.fused import deform_conv_triton as operation

# What the kernels add up is in fp32, whatever the maps are.
SUMS = ("grad_x_pointer", "grad_attention_pointer", "grad_weight_pointer")


class Compiled(NamedTuple):
    """A kernel for a card; registers of a thread, bytes of a program, warps of a program."""

    ptx: str
    cubin: bytes
    registers: int
    spilled_bytes: int
    shared_bytes: int
    warps: int


def compile_kernel(
    direction: str, *, capability: int, dtype: str, channels: int, outputs: int, cache: Path
) -> Compiled:
    """Compile the deformable convolution, contiguous maps and attention, without a card.

    Args:
        direction: "forward" or "backward".
        capability: 80 for an A100, 90 for an H100.
        dtype: Triton's name of the maps' dtype.
        channels: C that are sampled.
        outputs: O.
        cache: Triton's folder of compiled kernels.
    """
    kernel = getattr(kernels, f"{direction}_kernel")
    voxels = getattr(operation, f"{direction.upper()}_VOXELS")
    blocks = operation.blocks_for(channels, outputs, voxels=voxels)
    constants: dict[str, Any] = {"HAS_ATTENTION": True, **blocks._asdict()}
    if direction == "backward":
        constants["BLOCKS"] = operation.BACKWARD_BLOCKS
    # Triton makes a constant of a stride of 1, and knows of multiples of 16, here of a patch's size
    constants |= {name: 1 for name in kernel.arg_names if name.endswith("_voxel")}
    signature = {name: _kind(name, dtype, constants) for name in kernel.arg_names}
    multiples = {
        (index,): [["tt.divisibility", 16]]
        for index, name in enumerate(kernel.arg_names)
        if name not in constants
    }
    warps = operation.warps_for(blocks)
    with _cached_in(cache):
        compiled = triton.compile(
            ASTSource(kernel, signature, constants, multiples),
            target=GPUTarget("cuda", capability, 32),
            options={"num_warps": warps, "num_stages": 1},
        )
    registers, spilled = _resources(compiled.asm["ptx"])
    return Compiled(
        ptx=compiled.asm["ptx"],
        cubin=compiled.asm["cubin"],
        registers=registers,
        spilled_bytes=spilled,
        shared_bytes=compiled.metadata.shared,
        warps=warps,
    )


def _kind(name: str, dtype: str, constants: dict[str, Any]) -> str:
    if name in constants:
        return "constexpr"
    if name.endswith("_pointer"):
        return "*fp32" if name in SUMS else f"*{dtype}"
    return "i32"


@contextmanager
def _cached_in(folder: Path) -> Iterator[None]:
    with knobs.cache.scope():
        knobs.cache.dir = str(folder)
        yield


def _resources(ptx: str) -> tuple[int, int]:
    """Registers of a thread and spilled bytes, as the assembler that comes with Triton reports."""
    found = re.search(r"\.target (sm_\w+)", ptx)
    assert found is not None
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "kernel.ptx")
        source.write_text(ptx)
        command = [knobs.nvidia.ptxas.path, "-v", f"-arch={found[1]}", source, "-o", "/dev/null"]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    registers = re.search(r"Used (\d+) registers", report)
    spilled = re.search(r"(\d+) bytes spill stores", report)
    assert registers is not None
    assert spilled is not None
    return int(registers[1]), int(spilled[1])
