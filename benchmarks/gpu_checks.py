"""Whether S2CA-Net computes the right thing on a device, for `benchmarks.gpu`."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.gpu_step import precision, prepare, sizes_parser, tell
from nnunetv2_s2ca import S2CANet
from nnunetv2_s2ca.architecture.deform_conv import deform_conv3d_formula
from tests import golden
from tests.architecture.test_golden import MODULES, with_golden_weights

GOLDEN_PATCH = (128, 128, 128)
LOSS_SCALE = 2**16  # nnU-Net's GradScaler begins with it


class Check(NamedTuple):
    """What is held to what, a function that returns the error, and the largest one allowed."""

    name: str
    run: Callable[[torch.device], float]
    bound: float


def main(argv: Sequence[str] | None = None) -> None:
    """Run all checks; one that fails or raises does not keep the others from running."""
    arguments = sizes_parser().parse_args(argv)
    device = prepare(arguments.device)
    # fp32 means fp32 here
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    for check in _checks(tuple(arguments.patch), device):
        found: dict = {"name": check.name, "bound": check.bound, "passed": False}
        try:
            error = check.run(device)
        except Exception as problem:
            traceback.print_exc()
            found["error"] = f"{type(problem).__name__}: {problem}".splitlines()[0]
        else:
            # not a number is not less than anything
            found |= {"found": error, "passed": error <= check.bound}
        tell(checks=[found])


def _checks(patch: tuple[int, ...], device: torch.device) -> Iterator[Check]:
    for name in MODULES:
        yield Check(f"golden output: {name}", partial(_golden_module, name), 1e-4)
    small = tuple(min(length, 32) for length in patch)
    yield Check(
        f"gradients in fp32, {'×'.join(map(str, small))}, to fp64 on a processor",
        partial(_gradients, small, amp=False),
        1e-3,
    )
    if device.type == "cuda":
        yield Check("the same under fp16 autocast", partial(_gradients, small, amp=True), 0.05)
        for dtype, bound in ((torch.float32, 1e-4), (torch.float16, 1e-2), (torch.bfloat16, 5e-2)):
            yield Check(
                f"Triton kernel, {str(dtype)[6:]}: values and gradients to fp64",
                partial(_triton, dtype),
                bound,
            )
    if patch == GOLDEN_PATCH:
        yield Check("golden output: the whole network, 99 % of the values", _golden_network, 1e-3)


def _golden_module(name: str, device: torch.device) -> float:
    """Largest error in standard deviations."""
    make_module, make_inputs = MODULES[name]
    module = with_golden_weights(make_module(), name).to(device)
    with torch.no_grad():
        output = module(*(x.to(device) for x in make_inputs())).cpu()
    expected = torch.from_numpy(golden.outputs()[f"{name}/output"])
    return ((output - expected).abs().max() / expected.std()).item()


def _golden_network(device: torch.device) -> float:
    """Error of 99 % of the values in standard deviations; the border rule makes jumps of few."""
    untrained = S2CANet(4, 4, patch_size=GOLDEN_PATCH, swap_axes=True)
    network = with_golden_weights(untrained, "s2ca_net").to(device)
    with torch.no_grad():
        heads = network(golden.golden_input((1, 4, *GOLDEN_PATCH)).to(device))
    expected = golden.outputs()
    h, w, d = torch.from_numpy(expected["s2ca_net/voxels"]).long().T
    worst = 0.0
    for index, head in enumerate(heads):
        full = F.interpolate(head, size=GOLDEN_PATCH, mode="trilinear")[0].cpu()
        samples = torch.from_numpy(expected[f"s2ca_net/head{index}/samples"])
        std = torch.from_numpy(expected[f"s2ca_net/head{index}/std"])
        error = (full[:, h, w, d] - samples).abs() / std[:, None]
        worst = max(worst, error.quantile(0.99).item())
    return worst


def _gradients(patch: tuple[int, ...], device: torch.device, *, amp: bool) -> float:
    """Relative error of all gradients together."""
    torch.manual_seed(0)
    exact = S2CANet(4, 3, patch_size=patch).double()
    network = copy.deepcopy(exact).float().to(device)
    x = torch.randn(1, 4, *patch)
    expected = _all_gradients(exact, x.double(), 1)
    if not amp:
        return _relative_error(_all_gradients(network, x.to(device), 1), expected)
    with precision(device):
        found = _all_gradients(network, x.to(device), LOSS_SCALE)
    return _relative_error([grad / LOSS_SCALE for grad in found], expected)


def _all_gradients(network: nn.Module, x: Tensor, scale: float) -> list[Tensor]:
    network.eval()  # without chance: no stochastic depth
    loss = sum(
        y.float().square().mean() if y.dtype != torch.float64 else y.square().mean()
        for y in network(x)
    )
    assert isinstance(loss, Tensor)
    return list(torch.autograd.grad(loss * scale, list(network.parameters())))


def _triton(dtype: torch.dtype, device: torch.device) -> float:
    """Worst relative error of output and gradients of the deformable convolution's kernel."""
    from nnunetv2_s2ca.architecture.fused.deform_conv_triton import deform_conv_triton

    torch.manual_seed(0)
    size = (33, 20, 17)
    inputs = [
        y.to(dtype).double().requires_grad_()
        for y in (
            torch.randn(2, 8, *size),
            2 * torch.randn(2, 81, *size),
            torch.randn(96, 216) / 15,
            torch.rand(2, 1, *size),
        )
    ]
    x, offset, weight, attention = inputs
    expected = deform_conv3d_formula(x, offset * attention, weight)
    way = torch.randn_like(expected)
    theirs = [expected, *torch.autograd.grad(expected, inputs, way)]
    ours_in = [y.detach().to(device, dtype).requires_grad_() for y in inputs]
    out = deform_conv_triton(*ours_in)
    ours = [out, *torch.autograd.grad(out, ours_in, way.to(device, dtype))]
    return max(_relative_error([got], [want]) for got, want in zip(ours, theirs, strict=True))


def _relative_error(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    difference = sum(
        (y.detach().cpu().double() - z.detach()).square().sum()
        for y, z in zip(found, expected, strict=True)
    )
    norm = sum(z.detach().square().sum() for z in expected)
    return (torch.as_tensor(difference) / torch.as_tensor(norm)).sqrt().item()


if __name__ == "__main__":
    main()
