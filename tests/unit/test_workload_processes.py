"""Whether a process runs, told from the kernel's own account of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from phoenix_orch.workload import processes

linux = pytest.mark.skipif(sys.platform != "linux", reason="ends one thread by its number on Linux")
FIRST_THREAD_ENDS = """
import ctypes, platform, threading, time
threading.Thread(target=time.sleep, args=(600,)).start()
ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[platform.machine()], 0)  # exit, of this thread alone
"""


@pytest.fixture
def headless() -> Iterator[subprocess.Popen[bytes]]:
    """A process whose first thread has ended, while another one works on."""
    process = subprocess.Popen([sys.executable, "-c", FIRST_THREAD_ENDS])
    deadline = time.monotonic() + 20
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield process
    process.kill()
    process.wait()


@linux
def test_a_process_lives_as_long_as_one_of_its_threads(headless: subprocess.Popen[bytes]) -> None:
    found = processes.identify(headless.pid)
    assert found is not None
    alive = processes.watcher(found)
    assert processes.is_alive(found)
    assert alive()
    processes.signal_process(found, signal.SIGKILL)
    os.waitid(os.P_PID, headless.pid, os.WEXITED | os.WNOWAIT)
    assert Path(f"/proc/{headless.pid}").exists(), "it ended and waits to be reaped"
    assert not processes.is_alive(found)
    assert not alive()


def test_one_that_ended_and_was_not_reaped_does_not_live() -> None:
    process = subprocess.Popen(["true"])
    found = processes.identify(process.pid)
    assert found is not None
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not processes.is_alive(found)
    process.wait()
    assert not processes.is_alive(found)
