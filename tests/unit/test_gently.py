"""What copies production leaves half of the processors to it, and most of the share of the others."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import TypeVar

import pytest

from phoenix_orch.recovery.gently import step_back

T = TypeVar("T")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities on Linux alone")


def in_a_thread(act: Callable[[], T]) -> T:
    found = list[T]()
    thread = threading.Thread(target=lambda: found.append(act()))
    thread.start()
    thread.join()
    return found[0]


def stepped_back(processors: set[int] | None = None) -> tuple[set[int], int]:
    """Where a thread runs then, and how nice it is. `processors`: where it may run before."""
    me = threading.get_native_id()
    if processors is not None:
        os.sched_setaffinity(me, processors)
    step_back(me)
    return os.sched_getaffinity(me), os.getpriority(os.PRIO_PROCESS, me)


def test_all_that_step_back_share_the_same_half_of_the_processors() -> None:
    every = sorted(os.sched_getaffinity(0))
    half, nice = in_a_thread(stepped_back)
    assert half == set(every[len(every) // 2 :])
    assert nice >= 10
    assert in_a_thread(stepped_back) == (half, nice)


def test_one_processor_alone_is_kept() -> None:
    one = {min(os.sched_getaffinity(0))}
    assert in_a_thread(lambda: stepped_back(one))[0] == one


def test_a_process_steps_back_and_we_do_not() -> None:
    before = os.sched_getaffinity(0), os.getpriority(os.PRIO_PROCESS, 0)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        step_back(process.pid)
        assert os.getpriority(os.PRIO_PROCESS, process.pid) >= 10
        assert os.sched_getaffinity(process.pid) == in_a_thread(stepped_back)[0]
    assert (os.sched_getaffinity(0), os.getpriority(os.PRIO_PROCESS, 0)) == before


def test_a_process_that_has_ended_is_no_error() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    step_back(process.pid)
