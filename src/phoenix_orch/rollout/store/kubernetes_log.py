"""The log beside the Rollouts of a cluster: it knows each as the object says it, and gets what is decided."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Collection

from phoenix_orch.kernel.errors import Conflict, NotFound, Retryable
from phoenix_orch.kube.resources import Object
from phoenix_orch.rollout.kubernetes_status import Outbox
from phoenix_orch.rollout.status import Release, Rollout
from phoenix_orch.rollout.store import kubernetes_record as record
from phoenix_orch.rollout.store.patience import Patience
from phoenix_orch.rollout.store.store import RolloutStore

ATTEMPTS = 20
"""Of a change that does not depend on what was read, such as a further command."""
SHORT = 1.0
"""Seconds that a pass waits for a log that hangs, before it decides and after that is written."""
PATIENCE = 2.0
"""Seconds for other writes to the log."""
LONG = 10.0
"""Seconds for what may be much. Clients of the log have shorter ones for each call."""


class LogBeside:
    """What this process knows to be in the log of the rollouts of one namespace."""

    def __init__(self, log: RolloutStore) -> None:
        self._log = log
        self.patience = Patience()
        """Bounds every call to the log."""
        self._copied: dict[str, Rollout] = {}
        """The copy of each record that the log has."""
        self._logged: dict[str, Outbox] = {}
        """The outbox of each rollout that is in the log for certain."""

    def has(self, name: str, outbox: Outbox) -> bool:
        """What this outbox holds is in the log."""
        return self._logged.get(name) == outbox

    def forget(self, name: str) -> None:
        """The object, or what the log had of it, is gone."""
        self._copied.pop(name, None)
        self._logged.pop(name, None)

    def others(self, names: Collection[str]) -> set[str]:
        """Rollouts of which something is known and that are not among `names`."""
        return {*self._copied, *self._logged} - set(names)

    async def flush(self, found: Object, within: float = PATIENCE) -> None:
        """Bring what is in the outbox to the log; what is there already is not added again."""
        name, outbox = found["metadata"]["name"], record.status_of(found).outbox

        async def append() -> None:
            there = await self._log.events(name, limit=record.OUTBOX_EVENTS * 2) if outbox.events else []
            await self._log.append_events(name, [event for event in outbox.events if event not in there])
            for release in outbox.releases:
                await self._release(name, release)

        if self._logged.get(name) != outbox:
            await self.write(found, append, within)
            self._logged[name] = outbox

    async def _release(self, name: str, release: Release) -> None:
        for _ in range(ATTEMPTS):
            copy = await self._log.get(name)
            with contextlib.suppress(Conflict):
                self._copied[name] = await self._log.save(copy, copy.status, release=release)
                return
        raise busy(name)

    async def write(
        self, found: Object, write: Callable[[], Awaitable[None]], within: float = PATIENCE
    ) -> None:
        """Write to the log of a rollout that it knows as it is now. `within`: seconds."""

        async def both() -> None:
            await self._copy(found)
            try:
                await write()
            except NotFound:  # the log has lost everything since
                self._copied.pop(found["metadata"]["name"], None)
                await self._copy(found)
                await write()

        await self.patience.within(within, both)

    async def _copy(self, found: Object) -> None:
        """The log keeps what belongs to a rollout that it knows, and the templates that this refers to. The
        `service` of the copy is the uid of the object: it tells an object from a namesake before it."""
        rollout, uid = record.rollout_of(found), record.uid_of(found)
        for _ in range(ATTEMPTS):
            copy = self._copied.get(rollout.name)
            if copy is None or copy.service != uid:
                copy = await self._copied_before(rollout.name, uid)
            wanted = rollout.model_copy(
                update={"service": uid, "version": copy.version if copy else 0, "commands": ()}
            )
            with contextlib.suppress(Conflict):
                if copy is None or copy.model_copy(update={"status": rollout.status}) != wanted:
                    copy = await self._log.put(wanted)
                if copy.status != rollout.status:
                    copy = await self._log.save(copy, rollout.status)
                self._copied[rollout.name] = copy
                return
            self._copied.pop(rollout.name, None)
        raise busy(rollout.name)

    async def _copied_before(self, name: str, uid: str) -> Rollout | None:
        try:
            copy = await self._log.get(name)
        except NotFound:
            return None
        if copy.service == uid:
            return copy
        await self._log.remove(name)  # of an object of this name that was deleted by hand
        self._logged.pop(name, None)
        return None


def busy(name: str) -> Retryable:
    """What is raised where others were quicker again and again."""
    return Retryable(f"rollout {name} is written by others all the time", remedy="call again")
