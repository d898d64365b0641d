"""Give large blocks of memory back to the system as soon as they are free.

By default glibc raises its limit for what is mapped on its own to the largest block that was ever freed.
From then on large blocks come from the heap, and small ones that live long settle in the holes they leave.
Seen over an hour of releases: the table of interned strings, 1.8 MiB, is rebuilt every few minutes by all
the paths that are named and forgotten, and left a hole of its size three times.
"""

from __future__ import annotations

import contextlib
import ctypes

_M_MMAP_THRESHOLD = -3
"""From <malloc.h>; set by hand, it is not raised any more."""
LARGE = 256 * 1024
"""Bytes of a block that is mapped on its own."""


def return_large_blocks() -> None:
    """For a process that runs for months; once, at its start. Does nothing without glibc."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE)
