"""When each rollout is passed over: on its own time, whatever the others do.

Every rollout has a task of its own, so that one that hangs keeps no other one waiting. Of those that are
quiet few are passed over at once, and the more there are, the less often unless something changes: all that
is due there is to put right what somebody else changed. So it is from the first pass on: a new leader of
thousands takes minutes for all of them, and none for those on their way. One that is on its way waits for
nobody; without a change it is looked at less often where a hundred others are on theirs.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections.abc import Awaitable, Callable, Collection
from datetime import timedelta

AT_ONCE = 8
"""Quiet rollouts that are passed over at the same moment."""
SHARE = timedelta(milliseconds=25)
"""Shortest time between two passes over quiet rollouts, all of them together, unless they are woken."""
BUSY_SHARE = timedelta(milliseconds=10)
"""The same of rollouts that are on their way; half of it where they are woken."""
TICK = timedelta(milliseconds=250)
"""Longest wait between two passes over one that is on its way, in real time, as long as they are few."""
RESTING_TICK = timedelta(seconds=1)
"""The same of one that is quiet, as long as they are few; and between two looks which rollouts there are."""
BREATH = timedelta(milliseconds=10)
"""Shortest wait between two passes over a rollout, however often something changes."""


class Passes:
    """`run` until cancelled."""

    def __init__(
        self,
        names: Callable[[], Awaitable[Collection[str]]],
        one: Callable[[str], Awaitable[timedelta]],
        quiet: Callable[[str], bool],
    ) -> None:
        """`names`: all rollouts. `one`: a pass over one; it never raises, and gives the longest wait for the
        next one, in real time. `quiet`: whether no release of a rollout is on its way, as far as is known."""
        self._names = names
        self._one = one
        self._quiet = quiet
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._changed = asyncio.Event()
        self._finding = False
        self._find_at = 0.0
        self._due: dict[str, float] = {}
        self._queue: list[tuple[float, str]] = []
        """Every time that somebody was due at; only those in `_due` still hold."""
        self._busy: dict[str, float] = {}
        """Those on their way, and when they may be passed over again."""
        self._running: set[str] = set()
        self._woken: set[str] = set()

    def wake(self, *names: str) -> None:
        """Pass over these rollouts now; without a name, find all there are and pass over each."""
        if not names:
            self._find_at = 0.0
        self._woken.update(names or self._due)
        self._changed.set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                now = loop.time()
                if now >= self._find_at and not self._finding:
                    self._finding, self._find_at = True, now + RESTING_TICK.total_seconds()
                    group.create_task(self._find(), name="find rollouts")
                for name in self._ready(now):
                    self._running.add(name)
                    group.create_task(self._pass(name), name=f"pass over {name}")
                await asyncio.sleep(BREATH.total_seconds())
                await self._wait()

    async def _find(self) -> None:
        """Beside the passes: a store that hangs keeps no rollout waiting that is known."""
        try:
            names = set(await self._names())
            for gone in self._due.keys() - names:
                del self._due[gone]
                self._busy.pop(gone, None)
            self._begin(names - self._due.keys())
        finally:
            self._finding = False
            self._changed.set()

    def _begin(self, new: Collection[str]) -> None:
        """Those on their way at once, the quiet ones one after another."""
        now, quiet = asyncio.get_running_loop().time(), 0
        for name in new:
            waits = self._quiet(name)
            self._schedule(name, now + quiet * SHARE.total_seconds() if waits else 0.0)
            quiet += waits

    def _schedule(self, name: str, at: float) -> None:
        self._due[name] = at
        heapq.heappush(self._queue, (at, name))

    def _ready(self, now: float) -> list[str]:
        """Those that are due or woken and not under way; a wake during a pass asks for another one."""
        ready = []
        for name in (self._woken & self._due.keys()) - self._running:
            if (at := self._busy.get(name, 0.0)) <= now:
                ready.append(name)
            elif at < self._due[name]:
                self._schedule(name, at)
        self._woken &= self._running
        while self._queue and self._queue[0][0] <= now:
            at, name = heapq.heappop(self._queue)
            if self._due.get(name) == at and name not in self._running and name not in ready:
                ready.append(name)
        return ready

    async def _pass(self, name: str) -> None:
        try:
            if self._quiet(name):
                async with self._turns:
                    wait = await self._one(name)
            else:
                wait = await self._one(name)
            wait = self._stretched(name, wait)
            if name in self._due:
                self._schedule(name, asyncio.get_running_loop().time() + max(wait, BREATH).total_seconds())
        finally:
            self._running.discard(name)
            self._changed.set()

    def _stretched(self, name: str, wait: timedelta) -> timedelta:
        """`wait`, or longer where it is only a look at whether something has changed unnoticed."""
        if self._quiet(name):
            self._busy.pop(name, None)
            return max(wait, len(self._due) * SHARE) if wait >= TICK else wait
        now = asyncio.get_running_loop().time()
        self._busy[name] = now + len(self._busy) * BUSY_SHARE.total_seconds() / 2
        return max(wait, len(self._busy) * BUSY_SHARE) if wait >= TICK else wait

    async def _wait(self) -> None:
        """Until something changed, or somebody is due."""
        due = min(self._find_at, self._queue[0][0]) if self._queue else self._find_at
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(due):
                await self._changed.wait()
