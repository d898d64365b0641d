"""Calls of a pass that may fail without ending it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from phoenix_orch.kernel.errors import Conflict, PhoenixError, Retryable
from phoenix_orch.runtime.faults import Faults

T = TypeVar("T")

HEARING = 2.0
"""Real seconds for the words of the other processes, which are read side by side."""


class Attempts:
    """What fails is told once and means no answer; a conflict means another look."""

    def __init__(self, faults: Faults, look_again: Callable[[str], None]) -> None:
        """`look_again`: at the rollout of that name, soon."""
        self._faults = faults
        self._look_again = look_again

    async def attempt(self, name: str, what: str, call: Awaitable[T]) -> T | None:
        """The answer; None, told once, where it cannot be had."""
        try:
            answer = await call
        except Conflict:
            self._look_again(name)
            return None
        except PhoenixError as error:
            self._faults.tell(name, what, error=error)
            return None
        self._faults.mended(name, what)
        return answer

    async def heard(self, name: str, what: str, call: Callable[[], Awaitable[T]]) -> T | None:
        """A word of another process, if it can be had soon: nobody waits for it with an abort (R2)."""

        async def soon() -> T:
            try:
                async with asyncio.timeout(HEARING):
                    return await call()
            except TimeoutError:
                raise Retryable(f"no answer within {HEARING:g} s") from None

        return await self.attempt(name, what, soon())
