"""What the components of a cluster do by themselves goes into its audit log: by whichever replica leads.

Events of a Rollout are in the object before they are in the log beside it: what is on its way there is
brought there first. How far the audit log has come with them is written by the step that appends its
records, so that a leader that is killed, or one that does not know yet that it leads no more, records nothing
twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import timedelta

from phoenix_orch.kernel.errors import Retryable
from phoenix_orch.observability import metrics
from phoenix_orch.orchestrator.cluster.store import WatchedStore
from phoenix_orch.orchestrator.cluster.swept import Log
from phoenix_orch.orchestrator.followed_events import FollowedEvents
from phoenix_orch.rollout.status import Event, Rollout
from phoenix_orch.rollout.store.valkey import ValkeyStore
from phoenix_orch.security.audit_chain import Entry
from phoenix_orch.security.shared_audit import Come, SharedAuditLog

PATIENCE = 0.2
"""Seconds that a pass waits for the audit log."""


class ClusterEvents:
    """NumberedEvents of one namespace."""

    def __init__(self, store: WatchedStore, log: ValkeyStore) -> None:
        self._store = store
        self._log = log

    async def rollouts(self) -> list[Rollout]:
        """Those that there are, and those that were deleted and whose log is still there."""
        there = await self._store.rollouts()
        names = {one.name for one in there}
        return [*there, *(one for one in await self._log.rollouts() if one.name not in names)]

    async def events_after(self, name: str, event_id: str, limit: int) -> list[tuple[str, Event]]:
        await self._store.events(name, limit=1)
        return await self._log.events_after(name, event_id, limit)

    def watch(self, *, timeout: timedelta) -> AsyncIterator[str]:
        return self._store.watch(timeout=timeout)


class SharedProgress:
    """How far the audit log of a cluster has come with the events of its Rollouts."""

    def __init__(self, audit: SharedAuditLog) -> None:
        self._audit = audit
        self._written: dict[str, str] = {}
        """As it is in the store. Events that are no acts are gone past without writing."""

    async def known(self) -> dict[str, str]:
        self._written = await asyncio.to_thread(self._audit.followed)
        return dict(self._written)

    async def record(self, entries: Sequence[Entry], name: str, after: Mapping[str, str]) -> None:
        come = Come(name, self._written.get(name, ""), after[name])
        with metrics.appending(len(entries)):
            await asyncio.to_thread(self._audit.append, entries, come)
        self._written[name] = after[name]


class RecordedFirst:
    """The log of a Rollout that was deleted is swept when all of it is in the audit log."""

    def __init__(self, acts: FollowedEvents, log: Log) -> None:
        self._acts = acts
        self._log = log
        self._catching_up: asyncio.Task[bool] | None = None

    async def sweep(self, uids: Collection[str]) -> tuple[str, ...]:
        """Waits for the audit log no longer than for a moment: a pass calls it, and has more to do."""
        task = self._catching_up or asyncio.create_task(self._acts.catch_up())
        await asyncio.wait({task}, timeout=PATIENCE)
        self._catching_up = None if task.done() else task
        if not task.done() or not task.result():
            raise Retryable(
                "what deleted Rollouts did last is not in the audit log yet",
                remedy="their logs stay until the audit log can be written",
            )
        return await self._log.sweep(uids)
