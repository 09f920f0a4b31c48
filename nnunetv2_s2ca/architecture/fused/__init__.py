"""Fast forms of what `architecture` writes as formulas: for processors, and in Triton.

Each is one operation (`registering`), held to its formula by tests for values and all gradients.
`choice` decides where it is used, `kernels` where Triton is.
"""

from nnunetv2_s2ca.architecture.fused.block_input import InputMaps
from nnunetv2_s2ca.architecture.fused.choice import (
    block_is_fused,
    computes_again,
    merging_is_fused,
    on_processor,
    sampling_is_fused,
)
from nnunetv2_s2ca.architecture.fused.conv_unit import UnitWeights
from nnunetv2_s2ca.architecture.fused.deform_conv import deform_conv
from nnunetv2_s2ca.architecture.fused.kernels import sample_by_kernel, sampling_has_kernel
from nnunetv2_s2ca.architecture.fused.residual_block import residual_block
from nnunetv2_s2ca.architecture.fused.residual_block_parts import BlockWeights

__all__ = [
    "BlockWeights",
    "InputMaps",
    "UnitWeights",
    "block_is_fused",
    "computes_again",
    "deform_conv",
    "merging_is_fused",
    "on_processor",
    "residual_block",
    "sample_by_kernel",
    "sampling_has_kernel",
    "sampling_is_fused",
]
