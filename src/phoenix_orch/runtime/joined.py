"""One question for many who ask the same at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Joined(Generic[T]):
    """Asks one question at a time. Who comes while one is under way shares the next one with all who wait.

    So every answer is to a question that began after it was asked for, and however many ask, no more than
    two questions are in hand. Holds nothing between questions; may be used from one event loop after another.
    """

    def __init__(self, question: Callable[[], Awaitable[T]]) -> None:
        self._question = question
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: asyncio.Task[T] | None = None
        self._next: asyncio.Task[T] | None = None

    async def ask(self) -> T:
        """The answer, or what the question raises. One who is cancelled takes it from nobody else."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._running, self._next = loop, None, None
        if self._next is None:
            self._next = loop.create_task(self._in_turn(self._running), name="joined question")
            self._next.add_done_callback(_seen)
        return await asyncio.shield(self._next)

    async def _in_turn(self, before: asyncio.Task[T] | None) -> T:
        if before is not None and not before.done():
            await asyncio.wait({before})
        self._running, self._next = self._next, None
        return await self._question()


def _seen(task: asyncio.Task[T]) -> None:
    """Nobody may be left to hear of the error."""
    if not task.cancelled():
        task.exception()
