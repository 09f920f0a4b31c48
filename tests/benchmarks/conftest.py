"""The stand-in for nnU-Net's commands, for what trains by jobs."""

from tests.jobs.conftest import calls, nnunet

__all__ = ["calls", "nnunet"]
