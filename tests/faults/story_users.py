"""Users of a story: open load on kept-alive connections, every failed request kept with its moment."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass
from typing import Self

from phoenix_orch.demo import load

DAY = 86_400.0
"""Seconds after which users go even if nobody ends the story."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One request that was answered with 5xx, or not at all (status 0)."""

    at: float
    """Seconds since 1970."""
    status: int
    version: str
    """Of the answer; empty: it came from the router, or from nobody."""


class Account(load.Tally):
    """What users saw, failure by failure. Latencies are of no interest here and are not kept."""

    def __init__(self) -> None:
        super().__init__()
        self.failures: list[Failure] = []
        self.last_good = 0.0

    def add(self, status: int, version: str, seconds: float) -> None:
        super().add(status, version, seconds)
        self.latencies.clear()
        if 200 <= status < 500:
            self.last_good = time.time()
        else:
            self.failures.append(Failure(time.time(), status, version))


class Users:
    """The load of the demo in a thread of its own, for as long as a `with` block lasts."""

    def __init__(
        self, port: int, rate: float, patience: float = load.ANSWER_SECONDS, *, host: str = load.HOST
    ) -> None:
        self._load = load.Users(port, rate, patience=patience, host=host)
        self.account = Account()
        self._load.tally = self.account
        self._stop = asyncio.Event()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="users", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30.0)
        assert not self._thread.is_alive(), "the load did not end"

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            self._started.set()
            runner.run(self._ask())

    async def _ask(self) -> None:
        await self._load.run(DAY, self._stop)
        for connection in [*self._load._free, *self._load._busy]:
            connection.abort()
        await asyncio.sleep(0)

    def failures_since(self, moment: float) -> list[Failure]:
        return [failure for failure in list(self.account.failures) if failure.at >= moment]
