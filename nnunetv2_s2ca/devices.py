"""Does S2CA-Net run on the devices of this machine? A small one is tried, forward and backward."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nnunetv2_s2ca.architecture.s2ca_net import S2CANet

PATCH = 16
MISSING_ON_MPS = "grid_sampler_3d"


@dataclass(frozen=True)
class Trial:
    """How far a small S2CA-Net came on a device.

    Attributes:
        device: Its name, such as `cuda:0`.
        predicts: Whether the forward pass worked.
        trains: Whether the backward pass worked as well.
        problem: What went wrong, in one line.
        remedy: What to do about it.
    """

    device: str
    predicts: bool
    trains: bool
    problem: str = ""
    remedy: str = ""


def present_devices() -> list[str]:
    """All GPUs, then the processor."""
    gpus = (
        [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    )
    return [*gpus, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]


def try_device(device: str) -> Trial:
    """Run a forward and a backward pass of a small S2CA-Net, as nnU-Net would: fp16 on CUDA."""
    predicts = False
    try:
        output = _forward(device)
        if not output.isfinite().all():
            return _failed(device, predicts, "its output is not finite")
        predicts = True
        output.square().mean().backward()
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)  # errors of kernels come late
    except Exception as error:  # drivers and compilers raise anything
        lines = str(error).strip().splitlines()
        return _failed(device, predicts, f"{type(error).__name__}: {lines[0] if lines else ''}")
    return Trial(device, predicts=True, trains=True)


def _forward(device: str) -> torch.Tensor:
    network = S2CANet(
        1,
        1,
        patch_size=(PATCH,) * 3,
        features_per_stage=(8, 8, 8, 8),
        encoder_branches=((16, 1), (16, 1)),
        decoder_branches=((16, 1), (16, 1)),
        deep_supervision=False,
    ).to(device)
    patch = torch.ones(2, 1, *(PATCH,) * 3, device=device)
    with torch.autocast("cuda", enabled=device.startswith("cuda")):
        output: torch.Tensor = network(patch)
    return output


def _failed(device: str, predicts: bool, problem: str) -> Trial:
    return Trial(device, predicts, trains=False, problem=problem, remedy=_remedy(device, problem))


def _remedy(device: str, problem: str) -> str:
    if "out of memory" in problem:
        return f"other programs use the memory of {device}; end them (nvidia-smi lists them)"
    if device == "mps" and MISSING_ON_MPS in problem:
        return (
            "update PyTorch (MPS got this operation in late 2025, and its backward pass in 2026), "
            "or set PYTORCH_ENABLE_MPS_FALLBACK=1, which computes it on the processor, or add "
            "`-device cpu` to nnU-Net's commands"
        )
    if device == "cpu":
        return "reinstall PyTorch"
    return (
        "install a PyTorch that is built for this GPU and its driver (see pytorch.org), or add "
        "`-device cpu` to nnU-Net's commands"
    )
