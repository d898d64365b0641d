"""Tests that are told to end leave nothing behind."""

from __future__ import annotations

import signal
from types import FrameType


def end_in_order() -> None:
    """SIGTERM is what Ctrl-C is: fixtures and `finally` undo what was begun.

    Also in the background, where a shell has programs ignore Ctrl-C.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(_: int, __: FrameType | None) -> None:
    signal.raise_signal(signal.SIGINT)
