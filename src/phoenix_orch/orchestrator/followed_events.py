"""What Phoenix itself does goes into the audit log by its events: none is lost, none is recorded twice.

The record of an event holds the event's id, and is on the disk before the next one is read. How far this has
come is kept in a file, too, with the number of the record it was true at: a start reads the records after it.
Control loops know nothing of it, and nothing of them waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

import structlog

from phoenix_orch.kernel.errors import PhoenixError
from phoenix_orch.orchestrator.acts import Stood, entry, stood
from phoenix_orch.orchestrator.layout import write_whole
from phoenix_orch.rollout.status import Event, Rollout
from phoenix_orch.runtime.faults import Faults
from phoenix_orch.security.audit_chain import Entry
from phoenix_orch.security.recorder import Recorder

LOOK = timedelta(seconds=5)
"""The longest time between two looks at all rollouts."""
PAGE = 500
BEGIN = "0-0"


class NumberedEvents(Protocol):
    """A store whose events have ids that rise."""

    async def rollouts(self) -> list[Rollout]: ...

    async def events_after(self, name: str, event_id: str, limit: int) -> list[tuple[str, Event]]:
        """The oldest `limit` events after that one, with their ids; `0-0`: from the first one on. All of
        them, too, where the log was made anew and has never come so far."""
        ...

    def watch(self, *, timeout: timedelta) -> AsyncIterator[str]: ...


class FollowedEvents:
    """Run it in one process of a data directory."""

    def __init__(
        self,
        store: NumberedEvents,
        recorder: Recorder,
        kept: Path,
        wall: Callable[[datetime], datetime],
    ) -> None:
        """`kept`: the file of how far it has come. `wall`: what a clock on the wall showed at a moment."""
        self._store = store
        self._recorder = recorder
        self._kept = kept
        self._wall = wall
        self._after: dict[str, str] | None = None
        self._stood: dict[str, Stood] = {}
        self._recording = asyncio.Lock()
        self._faults = Faults(structlog.get_logger("phoenix.audit"))

    async def run(self) -> None:
        """Until cancelled."""
        async for name in self._store.watch(timeout=LOOK):
            await self.catch_up(*([name] if name else []))

    async def catch_up(self, *names: str) -> None:
        """Record what those rollouts, or all, have told until now; what fails is tried again later."""
        async with self._recording:
            try:
                if self._after is None:
                    self._after = await asyncio.to_thread(self._how_far)
                for name in names or [one.name for one in await self._store.rollouts()]:
                    await self._follow(name, self._after)
            except PhoenixError as error:
                self._after = None  # they may have been written all the same: the log knows
                self._faults.tell("acts", error=error)
            else:
                self._faults.mended("acts")

    async def _follow(self, name: str, after: dict[str, str]) -> None:
        while page := await self._store.events_after(name, after.get(name, BEGIN), PAGE):
            entries = self._entries(name, page)
            seq = (await self._recorder.append(entries, however_long=True))[-1].seq if entries else None
            after[name] = page[-1][0]
            if seq is not None:
                await asyncio.to_thread(self._keep, seq, after)

    def _entries(self, name: str, page: list[tuple[str, Event]]) -> list[Entry]:
        found: list[Entry] = []
        for event_id, event in page:
            told = entry(name, event_id, event, self._wall(event.at), self._stood.get(name))
            if told is not None:
                found.append(self._recorder.made(told))
            if (stands := stood(event)) is not None:
                self._stood[name] = stands
        return found

    def _how_far(self) -> dict[str, str]:
        """The last event of each rollout that is recorded."""
        seq, after = self._read()
        for record in self._recorder.log.after(seq):
            name, _, event_id = record.event.rpartition(":")
            if name:
                after[name] = event_id
        return after

    def _read(self) -> tuple[int, dict[str, str]]:
        """Nothing, where the file is not there or cannot be read: then all records are."""
        try:
            found = json.loads(self._kept.read_bytes())
            return int(found["seq"]), {str(name): str(at) for name, at in found["events"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return 0, {}

    def _keep(self, seq: int, after: dict[str, str]) -> None:
        with contextlib.suppress(OSError):  # the records say it, too
            write_whole(self._kept, json.dumps({"seq": seq, "events": after}))
