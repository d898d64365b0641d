"""What Phoenix itself does goes into the audit log by its events: none is lost, none is recorded twice.

The record of an event holds the event's id, and is on the disk before the next one is read. How far this has
come is kept, too: on one machine in a file, in a cluster by the very step that appends the records. Control
loops know nothing of it, and nothing of them waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
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


class Progress(Protocol):
    """How far the audit log has come with the events of each rollout."""

    async def known(self) -> dict[str, str]:
        """Ids of the last ones that are recorded, by rollout. Raises PhoenixError."""
        ...

    async def record(self, entries: Sequence[Entry], name: str, after: Mapping[str, str]) -> None:
        """Append entries of rollout `name`; with them it has come as far as `after` says.

        Raises Retryable, Terminal: they may be there all the same, which `known` tells then; and Conflict
        where another process has come further.
        """
        ...


class FollowedEvents:
    """Run it in one process of a data directory, or in whichever replica leads."""

    def __init__(
        self,
        store: NumberedEvents,
        progress: Progress,
        made: Callable[[Entry], Entry],
        wall: Callable[[datetime], datetime] = lambda at: at,
    ) -> None:
        """`made`: an entry as it may be kept. `wall`: what a clock on the wall showed at a moment."""
        self._store = store
        self._progress = progress
        self._made = made
        self._wall = wall
        self._after: dict[str, str] | None = None
        self._stood: dict[str, Stood] = {}
        self._recording = asyncio.Lock()
        self._faults = Faults(structlog.get_logger("phoenix.audit"))

    async def run(self) -> None:
        """Until cancelled."""
        async for name in self._store.watch(timeout=LOOK):
            await self.catch_up(*([name] if name else []))

    async def catch_up(self, *names: str) -> bool:
        """Record what those rollouts, or all, have told until now. What fails is tried again later, and False
        says so."""
        async with self._recording:
            try:
                if self._after is None:
                    self._after = await self._progress.known()
                for name in names or [one.name for one in await self._store.rollouts()]:
                    await self._follow(name, self._after)
            except PhoenixError as error:
                self._after = None  # they may have been written all the same: the log knows
                self._faults.tell("acts", error=error)
                return False
            self._faults.mended("acts")
            return True

    async def _follow(self, name: str, after: dict[str, str]) -> None:
        while page := await self._store.events_after(name, after.get(name, BEGIN), PAGE):
            entries = self._entries(name, page)
            come = {**after, name: page[-1][0]}
            if entries:
                await self._progress.record(entries, name, come)
            after |= come

    def _entries(self, name: str, page: list[tuple[str, Event]]) -> list[Entry]:
        found: list[Entry] = []
        for event_id, event in page:
            told = entry(name, event_id, event, self._wall(event.at), self._stood.get(name))
            if told is not None:
                found.append(self._made(told))
            if (stands := stood(event)) is not None:
                self._stood[name] = stands
        return found


class FileProgress:
    """Of one data directory: in a file, with the number of the record at which it was true. A start reads the
    records after that."""

    def __init__(self, recorder: Recorder, kept: Path) -> None:
        self._recorder = recorder
        self._kept = kept

    async def known(self) -> dict[str, str]:
        return await asyncio.to_thread(self._how_far)

    async def record(self, entries: Sequence[Entry], name: str, after: Mapping[str, str]) -> None:  # noqa: ARG002
        written = await self._recorder.append(entries, however_long=True)
        await asyncio.to_thread(self._keep, written[-1].seq, after)

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

    def _keep(self, seq: int, after: Mapping[str, str]) -> None:
        with contextlib.suppress(OSError):  # the records say it, too
            write_whole(self._kept, json.dumps({"seq": seq, "events": dict(after)}))
