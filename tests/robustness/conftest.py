"""The stand-in for nnU-Net's commands that the tests of the jobs have."""

from tests.jobs.conftest import calls, images, nnunet  # noqa: F401
