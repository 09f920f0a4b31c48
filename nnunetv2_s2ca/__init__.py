"""S2CA-Net for nnU-Net v2."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnunetv2_s2ca.architecture.s2ca_net import S2CANet

__all__ = ["S2CANet"]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import, which `s2ca --help` should not wait for
    if name == "S2CANet":
        from nnunetv2_s2ca.architecture.s2ca_net import S2CANet

        return S2CANet
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
