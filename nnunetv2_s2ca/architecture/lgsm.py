"""The local-global synergic module (LGSM)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from nnunetv2_s2ca.architecture.global_branch import GlobalBranch
from nnunetv2_s2ca.architecture.residual_block import ResidualBlock


@dataclass(frozen=True)
class LGSM:
    r"""A residual block R for what is near, and a global branch G for what is far.

    .. math::
        \mathrm{encoder:} \quad y &= R(x) + G(U_1(x)) \\
        \mathrm{decoder:} \quad y &= R(x) + G(x)

    with the stem feature :math:`U_1(x)`, the output of the block's first unit. It owns no weights:
    encoder and decoder do, under the names that checkpoints know.
    """

    local_branch: ResidualBlock
    global_branch: GlobalBranch

    def encode(self, x: Tensor) -> Tensor:
        """(B, C, H, W, D) → (B, C', H / stride, …)."""
        y, stem = self.local_branch.forward_with_stem(x)
        return y + self.global_branch(stem)

    def decode(self, x: Tensor) -> Tensor:
        """(B, C, H, W, D) → (B, C', H, W, D)."""
        return self.local_branch(x) + self.global_branch(x)
