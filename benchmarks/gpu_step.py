"""One network for `benchmarks.gpu`: steps of a training and windows, a JSON object a line."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch import Tensor, nn

from benchmarks.networks import INPUT_CHANNELS, NETWORKS, REGIONS
from benchmarks.speed import timed

CLIPPED_NORM = 12  # nnU-Net's


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print what is known as soon as it is."""
    arguments = sizes_parser("network", "mode").parse_args(argv)
    _measure(arguments, prepare(arguments.device))


def sizes_parser(*names: str) -> argparse.ArgumentParser:
    """Parser of what the parts of `benchmarks.gpu` are told."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in names:
        parser.add_argument(name)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--patch", type=int, nargs=3, default=(128, 128, 128))
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=10)
    return parser


def prepare(name: str) -> torch.device:
    """Set PyTorch up for a device as nnU-Net's commands do."""
    torch.manual_seed(0)
    if name == "cuda":
        torch.set_num_threads(1)
        torch.backends.cudnn.benchmark = True
    return torch.device(name)


def precision(device: torch.device) -> AbstractContextManager:
    """Autocast on a card, as in nnU-Net, which uses none on processors."""
    return torch.autocast("cuda") if device.type == "cuda" else nullcontext()


def _measure(arguments: argparse.Namespace, device: torch.device) -> None:
    network = NETWORKS[arguments.network](arguments.patch).to(device)
    tell(parameters=sum(p.numel() for p in network.parameters()))
    run: Callable[[Tensor], Any] = network
    if arguments.mode == "compiled":
        run = torch.compile(network)
    step = _training_step(network, run, arguments, device)
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    tell(first_step_s=time.perf_counter() - start)
    tell(**timed("step", step, device, arguments.repeats))

    network.eval()
    decoder: Any = network.decoder
    decoder.deep_supervision = False
    window = torch.randn(1, INPUT_CHANNELS, *arguments.patch, device=device)

    def predict() -> None:
        with torch.inference_mode(), precision(device):
            run(window)

    tell(**timed("window", predict, device, arguments.repeats))


def _training_step(
    network: nn.Module,
    run: Callable[[Tensor], Any],
    arguments: argparse.Namespace,
    device: torch.device,
) -> Callable[[], None]:
    """One step as nnU-Net's trainer makes it, on data that are on the device."""
    network.train()
    scaler = torch.amp.GradScaler("cuda") if device.type == "cuda" else None
    optimizer: torch.optim.Optimizer = (
        torch.optim.Adam(network.parameters(), 1e-3, weight_decay=1e-5)
        if arguments.network.startswith("S2CA-Net")
        else torch.optim.SGD(
            network.parameters(), 1e-2, weight_decay=3e-5, momentum=0.99, nesterov=True
        )
    )
    data = torch.randn(arguments.batch, INPUT_CHANNELS, *arguments.patch, device=device)
    with torch.no_grad(), precision(device):
        sizes = [tuple(y.shape[2:]) for y in network(data)]
    targets = [torch.rand(arguments.batch, REGIONS, *size, device=device).round() for size in sizes]
    weights = [1 / 2**level for level in range(len(sizes))]
    loss_of = DeepSupervisionWrapper(
        DC_and_BCE_loss(
            {},
            {"batch_dice": False, "do_bg": True, "smooth": 1e-5, "ddp": False},
            dice_class=MemoryEfficientSoftDiceLoss,
        ),
        [weight / sum(weights) for weight in weights],
    )

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with precision(device):
            loss = loss_of(run(data), targets)
        if scaler is None:
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), CLIPPED_NORM)
            optimizer.step()
            return
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(network.parameters(), CLIPPED_NORM)
        scaler.step(optimizer)
        scaler.update()

    return step


def tell(**known: Any) -> None:
    """Print what is known now; who runs this program may stop it before its end."""
    print(json.dumps(known), flush=True)


if __name__ == "__main__":
    main()
