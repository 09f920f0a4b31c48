"""Settings that every test shares."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# before numpy and torch start their threads, which on small arrays cost more than they save
os.environ.setdefault("OMP_NUM_THREADS", "1")

# a shell that runs the tests in the background has them, and what they start, ignore Ctrl-C
if (
    threading.current_thread() is threading.main_thread()
    and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def nnunet_folders(tmp_path, monkeypatch) -> Path:
    """nnU-Net's three folders, empty, and its workers off."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    monkeypatch.setenv("nnUNet_def_n_proc", "1")
    return tmp_path


@pytest.fixture
def raw(nnunet_folders) -> Path:
    """nnUNet_raw, empty."""
    return nnunet_folders / "nnUNet_raw"


# a loaded machine is not the code's fault
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("default")
