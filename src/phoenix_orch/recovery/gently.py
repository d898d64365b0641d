"""What copies production steps back before what serves it."""

from __future__ import annotations

import contextlib
import os
import sys

NICE = 10
"""A tenth of the share of what serves, where there is not enough for both; all of it where there is."""


def step_back(number: int) -> None:
    """A process or, on Linux, a thread of this one by its native id. It never gets its share back."""
    if sys.platform == "linux":  # elsewhere a thread has no priority of its own
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, number, NICE)
