"""What instances started outside their group, seen while it descended from them.

A process with a session of its own is not reached by a signal to the instance's group, and one with an
emptied environment bears no mark. But while its parents live it descends from the instance, and when they end
it comes to Phoenix. So Phoenix looks once a second, and writes down what it saw for the next Phoenix.
Only what was seen like this is ever ended, and only while it is the very process that was seen.

    <data>/services/descendants.json
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from phoenix_orch.runtime import detached
from phoenix_orch.runtime.children import Orphans
from phoenix_orch.runtime.detached import Process
from phoenix_orch.runtime.faults import Faults
from phoenix_orch.runtime.files import Stamp, make_private, stamp
from phoenix_orch.runtime.process_table import Table, below, table
from phoenix_orch.workload import processes
from phoenix_orch.workload.processes import ProcessId

_AFTER_KILL = 5.0
"""Seconds after SIGKILL; what is there then waits for hardware, and there is nothing left to do."""
_POLL = 0.05

_log = structlog.get_logger("phoenix.workload")


class Family(BaseModel):
    """One process of an instance, and what it started outside its group."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    instance: str
    leader: Process
    members: tuple[Process, ...] = ()


class Kept(BaseModel):
    """The whole file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    families: tuple[Family, ...] = ()
    orphans: tuple[Process, ...] = ()
    """What came to Phoenix before anybody saw from which instance."""


def path_in(data_dir: Path) -> Path:
    return data_dir / "services" / "descendants.json"


def read(data_dir: Path) -> Kept:
    """What was seen last; nothing where that was lost."""
    try:
        return Kept.model_validate_json(path_in(data_dir).read_bytes())
    except (OSError, ValidationError):
        return Kept()


def living(data_dir: Path) -> list[tuple[str, Process]]:
    """What was seen last and lives, with the name of its instance; empty where that was not seen."""
    kept = read(data_dir)
    found = [(family.instance, one) for family in kept.families for one in family.members]
    return [(name, one) for name, one in (*found, *(("", one) for one in kept.orphans)) if one.alive]


def grown(now: Table, family: Family) -> Family:
    """The family as it is now: what lives of it, and all that has come since. Pure."""
    leader = family.leader.pid if _is(now, family.leader) else None
    roots = {one.pid for one in family.members if _is(now, one)}
    if leader is not None:
        roots |= {leader, *(pid for pid, row in now.items() if row.session == leader)}
    found = {pid for pid in below(now, roots) if pid != leader and not now[pid].over}
    outside = (pid for pid in sorted(found) if leader is None or now[pid].group != leader)
    return family.model_copy(update={"members": tuple(_process(now, pid) for pid in outside)})


class Descendants:
    """Of all instances of one data directory. `look` now and then; it may be called by several tasks."""

    def __init__(self, data_dir: Path, leaders: Callable[[], Mapping[str, ProcessId]]) -> None:
        """`leaders`: the process of each instance that has one now."""
        self._data_dir = data_dir
        self._path = path_in(data_dir)
        self._leaders = leaders
        self._kept = Kept()
        self._known: dict[ProcessId, Process] = {}
        self._orphans = Orphans()
        self._stamp: Stamp | None = None
        self._faults = Faults(_log)
        self._looking = threading.Lock()
        """Held by a look that goes on when the one who asked for it has been cancelled."""
        self._one = asyncio.Lock()
        self._begun = 0
        self._gone: list[Family] = []

    def take_over(self) -> None:
        """Go on with what an earlier Phoenix saw."""
        self._kept = read(self._data_dir)

    async def look(self) -> list[Family]:
        """Look, and write down what is new; families whose leader has ended, for as long as one lives."""
        asked = self._begun
        async with self._one:
            if self._begun == asked:  # else one has begun since, and will have seen what was to be seen
                self._begun += 1
                self._gone = await asyncio.to_thread(self._look, dict(self._leaders()))
            return self._gone

    async def end_all(self, grace: float) -> None:
        """End everything that was seen, whatever lives of its instances."""
        await self.look()
        await self.look()  # orphans are believed at the second look
        left = [one for family in self._kept.families for one in family.members]
        await end("", [*left, *self._kept.orphans], grace)
        self._kept = Kept()
        self._path.unlink(missing_ok=True)

    def _look(self, leaders: Mapping[str, ProcessId]) -> list[Family]:
        with self._looking:
            now = table()
            families = [grown(now, family) for family in self._families(now, leaders)]
            seen = tuple(family for family in families if family.members)
            attributed = {one for family in seen for one in family.members}
            orphans = tuple(one for one in self._lost(now) if one not in attributed)
            self._keep(Kept(families=seen, orphans=orphans))
            return [family for family in seen if not _is(now, family.leader)]

    def _families(self, now: Table, leaders: Mapping[str, ProcessId]) -> Iterable[Family]:
        """Those known, and those of leaders that are new."""
        known = {family.leader: family for family in self._kept.families}
        self._known = {i: p for i, p in self._known.items() if i in leaders.values()}
        for name, identity in leaders.items():
            leader = self._known.get(identity)
            if leader is None and identity.pid in now and processes.is_alive(identity):
                leader = self._known[identity] = _process(now, identity.pid)
            if leader is not None:
                known.setdefault(leader, Family(instance=name, leader=leader))
        return known.values()

    def _lost(self, now: Table) -> list[Process]:
        """Orphans that came to this process, or to an earlier Phoenix, and what descends from them."""
        roots = {one.pid for one in self._kept.orphans if _is(now, one)} | self._orphans.among(now)
        return [_process(now, pid) for pid in sorted(below(now, roots)) if not now[pid].over]

    def _keep(self, kept: Kept) -> None:
        if kept == self._kept and stamp(self._path) == self._stamp:
            return
        self._kept = kept
        try:
            self._write(kept)
        except OSError as error:
            self._faults.tell("services", "descendants", error=error)
        else:
            self._faults.mended("services", "descendants")
            self._stamp = stamp(self._path)

    def _write(self, kept: Kept) -> None:
        """Not synced: it has to outlive Phoenix, and a machine that lost power has no processes."""
        make_private(self._path.parent)
        temporary = self._path.with_name(f".{self._path.name}.new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(kept.model_dump_json())
        temporary.replace(self._path)


async def end(instance: str, members: Iterable[Process], grace: float) -> None:
    """SIGTERM now, SIGKILL after `grace` seconds; returns when they have ended.

    In no thread: those are few, and an abort needs one.
    """
    living = [one for one in set(members) if one.alive]
    for one in living:
        _log.info("what an instance left is ended", pid=one.pid, instance=instance or "not known")
        detached.send(one, signal.SIGTERM)
    if living and not await _ended(living, grace):
        for one in living:
            detached.send(one, signal.SIGKILL)
        if not await _ended(living, _AFTER_KILL):
            _log.error("processes do not end", pids=[one.pid for one in living if one.alive])


async def _ended(those: Iterable[Process], within: float) -> bool:
    deadline = time.monotonic() + within
    while left := [one for one in those if one.alive]:
        if time.monotonic() > deadline:
            return False
        those = left
        await asyncio.sleep(_POLL)
    return True


def _is(now: Table, process: Process) -> bool:
    """It is in the table, and is the very process that is meant."""
    row = now.get(process.pid)
    return row is not None and row.started == process.started and not row.over


def _process(now: Table, pid: int) -> Process:
    return Process(pid=pid, started=now[pid].started)
