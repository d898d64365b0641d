"""Waiting in tests for what comes by itself."""

from __future__ import annotations

import time
from collections.abc import Callable


def eventually(what: str, condition: Callable[[], bool], seconds: float = 100.0) -> None:
    """Poll until the condition holds; fail with `what` when it does not within so many seconds."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, f"not within {seconds} s: {what}"
        time.sleep(0.1)
