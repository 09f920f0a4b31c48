"""Which Triton kernels are used: none, unless the environment variable S2CA_TRITON is 1.

They are off by default, since nobody has measured them on a card yet. The variable is read when the
package is imported.
"""

from __future__ import annotations

import os
import warnings

import torch
from torch import Tensor

SWITCH = "S2CA_TRITON"
DTYPES = (torch.float16, torch.bfloat16, torch.float32)
# Beyond these, blocks of the deformable convolution would not stay in registers. S2CA-Net-L has 16
# and 192.
MOST_CHANNELS, MOST_OUTPUTS = 16, 256


def switched_on() -> bool:
    """Whether the environment asks for Triton kernels, as nnU-Net reads nnUNet_compile."""
    if os.environ.get(SWITCH, "f").lower() not in ("true", "1", "t"):
        return False
    try:
        import triton  # noqa: F401
    except ImportError as error:
        warnings.warn(
            f"{SWITCH} asks for Triton kernels, but Triton cannot be imported ({error}); S2CA-Net "
            f"runs without them. Install Triton, or unset {SWITCH}.",
            stacklevel=2,
        )
        return False
    return True


ON = switched_on()
if ON:
    from nnunetv2_s2ca.architecture.fused.deform_conv_triton import deform_conv_triton


def sampling_has_kernel(x: Tensor, offset: Tensor, weight: Tensor) -> bool:
    """Whether a deformable convolution takes its Triton kernel.

    Args:
        x: (B, C, H, W, D).
        offset: (B, 81, H, W, D).
        weight: (O, C · 27).
    """
    return ON and x.is_cuda and not torch.compiler.is_exporting() and _fits(x, offset, weight)


def _fits(x: Tensor, offset: Tensor, weight: Tensor) -> bool:
    channels, outputs = x.shape[1], len(weight)
    return (
        all(y.dtype in DTYPES for y in (x, offset, weight))
        and channels <= MOST_CHANNELS
        and outputs <= MOST_OUTPUTS
        # indices within a sample are 32 bits wide
        and x[0, 0].numel() * max(offset.shape[1], outputs) < 2**31
        # the formula tells those who ask for determinism that there is none
        and not torch.are_deterministic_algorithms_enabled()
    )


def sample_by_kernel(x: Tensor, offset: Tensor, weight: Tensor, attention: Tensor | None) -> Tensor:
    """`architecture.deform_conv.deform_conv3d`, where `sampling_has_kernel`."""
    return deform_conv_triton(x, offset, weight, attention)
