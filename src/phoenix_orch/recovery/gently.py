"""What copies production steps back before what serves it."""

from __future__ import annotations

import contextlib
import os
import sys

NICE = 10
"""A tenth of the share of what serves, where there is not enough for both; all of it where there is."""


def step_back(number: int) -> None:
    """A process or, on Linux, a thread of this one by its native id. It never gets its share back.

    A share alone is not enough: a kernel lets who runs go on for some milliseconds, whoever wakes up
    meanwhile, and copies of a MiB are not interrupted at all. So half of the processors stay free of it.
    """
    if sys.platform == "linux":  # elsewhere a thread has no priority of its own
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, number, NICE)
        with contextlib.suppress(OSError):
            os.sched_setaffinity(number, _half(os.sched_getaffinity(number)))


def _half(processors: set[int]) -> set[int]:
    """The upper half, one at least: of the same processors, it is the same half for all that step back."""
    return set(sorted(processors)[len(processors) // 2 :])
