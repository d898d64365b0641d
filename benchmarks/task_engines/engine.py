"""What the harness asks of an engine, and what all of them are given alike."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

SLOTS = 16
"""Tasks that a worker runs at once."""
CALLERS = 64
"""Callers that hand in tasks at once, in one event loop."""


class Engine(Protocol):
    async def enqueue(self, url: str, count: int) -> None:
        """Hand in `count` tasks; back when the server has the last."""

    def work(self, url: str, ran: Callable[[], None]) -> None:
        """Run tasks, `SLOTS` at once, each of which calls `ran`, until the process is killed."""


async def called(count: int, call: Callable[[], Awaitable[object]]) -> None:
    """Await `count` calls, `CALLERS` at once."""
    left = iter(range(count))

    async def caller() -> None:
        for _ in left:
            await call()

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
