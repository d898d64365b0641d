"""A loop that stands still is told of, with the place and without what is there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from structlog.testing import capture_logs

from phoenix_orch.runtime.loop_beat import BEAT, LoopBeat
from phoenix_orch.runtime.stuck_loop import stuck_loop_told

LIMIT = 0.3


def blocks_the_loop(password: str, until: Callable[[], Any]) -> None:
    give_up = time.monotonic() + 20.0
    while not until():
        assert time.monotonic() < give_up, f"nobody noticed for {len(password)} letters"
        time.sleep(0.01)


async def test_who_blocks_the_loop_is_named_once_and_no_value_is() -> None:
    with capture_logs() as logs, stuck_loop_told(LIMIT):
        await asyncio.sleep(0)
        blocks_the_loop("hunter2", lambda: logs)
        blocked = time.monotonic()
        while time.monotonic() < blocked + 3 * LIMIT:
            time.sleep(0.01)  # noqa: ASYNC251 - to be stuck is the point
        while len(logs) < 2:
            await asyncio.sleep(0.01)
    told, over = logs
    assert told["event"] == "the event loop stands still"
    assert told["log_level"] == "error"
    assert told["seconds"] >= LIMIT
    assert any("blocks_the_loop" in place and "test_stuck_loop.py:" in place for place in told["at"])
    assert "hunter2" not in str(logs)
    assert over["event"] == "the event loop runs again"


async def test_a_loop_that_waits_is_left_in_peace() -> None:
    with capture_logs() as logs, stuck_loop_told(LIMIT):
        await asyncio.sleep(5 * LIMIT)
    assert logs == []


async def test_a_beat_counts_what_the_loop_lost_and_not_what_it_waited() -> None:
    with LoopBeat() as beat:
        await asyncio.sleep(3 * BEAT)
        waited = beat.lost
        began = time.monotonic()
        time.sleep(0.5)  # noqa: ASYNC251 - to be stuck is the point
        stood = time.monotonic() - began
        await asyncio.sleep(0.001)
        assert stood - 2 * BEAT < beat.lost - waited <= time.monotonic() - began
