"""Bars in seconds, on a machine that has other things to do."""

from __future__ import annotations

import os


def slowdown() -> float:
    """How many processes want each processor now, by the mean of the last minute; 1 at the least.

    A bar holds for a machine that has nothing else to do. Where 20 processes share 2 processors everything
    takes ten times as long, and nobody learns anything from a test that fails for it.
    """
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
