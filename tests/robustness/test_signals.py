"""Signals wait until a block is over, whichever thread receives them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from nnunetv2_s2ca.core.signals import signals_held


@pytest.fixture
def other_thread():
    """A thread that waits, and receives signals that the main thread blocks."""
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    yield
    done.set()
    thread.join()


@pytest.fixture
def received():
    """A socket with a byte for each signal that any thread has received."""
    reading, writing = socket.socketpair()
    writing.setblocking(False)
    former = signal.set_wakeup_fd(writing.fileno())
    yield reading
    signal.set_wakeup_fd(former)
    reading.close()
    writing.close()


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_another_thread_receives_waits(other_thread, received, sign):
    finished = []

    def hold() -> None:
        with signals_held():
            os.kill(os.getpid(), sign)
            assert received.recv(1) == bytes([sign])
            finished.append(sum(range(1000)))  # Python would run the handler here

    former = signal.signal(sign, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            hold()
        assert signal.getsignal(sign) is signal.default_int_handler
    finally:
        signal.signal(sign, former)
    assert finished


def test_a_signal_waits_without_another_thread_and_still_ends_the_process():
    program = """if True:
        import os, signal
        from nnunetv2_s2ca.core.signals import signals_held
        with signals_held():
            os.kill(os.getpid(), signal.SIGTERM)
            print("finished", flush=True)
        print("not reached", flush=True)
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == -signal.SIGTERM
    assert done.stdout == "finished\n"


def test_ignored_signals_stay_ignored():
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with signals_held():
            os.kill(os.getpid(), signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, former)


def test_other_threads_can_hold_signals(other_thread):
    outcome = []

    def hold() -> None:
        with signals_held():
            outcome.append(signal.pthread_sigmask(signal.SIG_BLOCK, ()))

    thread = threading.Thread(target=hold)
    thread.start()
    thread.join()
    assert {signal.SIGINT, signal.SIGTERM, signal.SIGHUP} <= outcome[0]
