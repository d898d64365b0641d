"""The life of one instance: start, watch, probe, replace, and end its process.

All of it happens in one event loop; state changes are published before anything else is awaited.
A cancelled `run` leaves the process running: it is adopted by whoever comes next.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

import structlog

from phoenix_orch.kernel import placeholders
from phoenix_orch.kernel.clock import Clock
from phoenix_orch.kernel.errors import Retryable
from phoenix_orch.kernel.units import format_duration
from phoenix_orch.runtime.exit_watch import ExitWatch, reap
from phoenix_orch.workload import processes
from phoenix_orch.workload.backoff import LONGEST, Backoff
from phoenix_orch.workload.plan import Member
from phoenix_orch.workload.ports import Ports, is_free
from phoenix_orch.workload.probe import HealthProbe, Look
from phoenix_orch.workload.processes import CannotStart, ProcessId
from phoenix_orch.workload.readiness import Readiness
from phoenix_orch.workload.settings import ProcessSettings
from phoenix_orch.workload.spec import Template
from phoenix_orch.workload.starts import Starts, Turn
from phoenix_orch.workload.state_file import InstanceRecord, Layout
from phoenix_orch.workload.workload import Instance, InstanceState

FIRST_PROBE = 0.05
"""Seconds between the first looks at an instance that starts; they grow to the health interval."""
SPREAD = (0.9, 1.1)
"""The time between two looks differs by so much, or the looks at all instances would come together."""
_KILL_AGAIN = 5.0
_OOM_GRACE = 2.0
"""Seconds that a process gets to end when it has outgrown its memory limit and may grow on."""


class Home(Protocol):
    """What an instance needs of its service's supervisor."""

    service: str
    data_dir: Path
    base: Path
    clock: Clock
    settings: ProcessSettings
    ports: Ports
    layout: Layout

    @property
    def drain(self) -> float:
        """Seconds between SIGTERM and SIGKILL."""
        ...

    @property
    def probe(self) -> HealthProbe: ...

    @property
    def starts(self) -> Starts: ...

    def changed(self) -> None:
        """Publish the service's state now and think about what follows."""
        ...

    def ended(self, instance: SupervisedInstance, code: int | None, reason: str, detail: str) -> None:
        """An unexpected end, told as in `Exit`; `changed` follows."""
        ...

    async def look_at_descendants(self) -> None:
        """See what instances have started, while it still descends from them."""
        ...

    def may_replace(self, instance: SupervisedInstance) -> bool:
        """Whether one that is unhealthy or never ready may be ended now; if not, ask after its next look."""
        ...


class SupervisedInstance:
    """One instance. `run` it once; the other methods say what shall become of it and return at once."""

    def __init__(self, home: Home, name: str, ordinal: int, template: Template, port: int) -> None:
        self.name = name
        self.ordinal = ordinal
        self.template = template
        self.revision = template.revision
        self.port = port
        self.process: ProcessId | None = None
        self.draining = False
        self.retiring = False
        self.been_ready = False
        """It may be known to the router: it has been ready at least once in its life."""
        self._home = home
        self._readiness = Readiness()
        self._ready_since: datetime | None = None
        self._ready_at: float | None = None
        self._began = time.time()
        self._backoff = Backoff()
        self._start_at: float | None = None
        self._kill_at: float | None = None
        self._cause = self._detail = ""
        self._turn: Turn | None = None
        self._no_start = asyncio.Event()
        self._end = asyncio.Event()
        self._log = structlog.get_logger("phoenix.workload").bind(service=home.service, instance=name)

    # -- what it is --------------------------------------------------------------------------------

    @property
    def leaving(self) -> bool:
        """Its process has been told to end."""
        return self._end.is_set()

    @property
    def state(self) -> InstanceState:
        if self.draining:
            return InstanceState.DRAINING
        if self.process is None:
            return InstanceState.BACKOFF
        if self._readiness.ready and not self.leaving:
            return InstanceState.READY
        return InstanceState.UNREADY if self._readiness.been_ready else InstanceState.STARTING

    @property
    def serves(self) -> bool | None:
        """Whether it is ready. None: it has not been yet, or is not meant to be any more."""
        if self.draining or self.leaving or self.process is None or not self._readiness.been_ready:
            return None
        return self._readiness.ready

    def member(self) -> Member:
        return Member(self.name, self.ordinal, self.state, retiring=self.retiring, leaving=self.leaving)

    def snapshot(self) -> Instance:
        return Instance(
            name=self.name,
            revision=self.revision,
            state=self.state,
            pid=self.process.pid if self.process else None,
            started=self.process.started if self.process else None,
            port=self.port,
            ready_since=self._ready_since,
            metrics_path=self.template.metrics,
            log=str(self._home.layout.log(self.name)),
        )

    def record(self) -> InstanceRecord:
        return InstanceRecord(
            ordinal=self.ordinal,
            retiring=self.retiring,
            been_ready=self.been_ready,
            failures=self._backoff.failures,
            start_at=self._start_at,
            kill_at=self._kill_at,
            ready_at=self._ready_at,
        )

    # -- taking over from an earlier supervisor ----------------------------------------------------

    def adopt(self, kept: Instance, record: InstanceRecord, process: ProcessId | None) -> None:
        """Go on where an earlier supervisor stopped. `process`: its process, if it still runs."""
        self.draining = kept.state is InstanceState.DRAINING
        self.retiring = record.retiring
        self.been_ready = record.been_ready
        self._backoff = Backoff(record.failures)
        self._start_at = record.start_at
        self.process = process
        if process is None:
            return
        self._began = process.started
        if kept.pid == process.pid:
            was_ready = kept.ready_since is not None
            self._readiness = Readiness(was_ready, was_ready or kept.state is InstanceState.UNREADY)
            self._ready_since, self._ready_at = kept.ready_since, record.ready_at
            self._kill_at = record.kill_at
            if record.kill_at is not None:
                self._end.set()

    def missed(self) -> None:
        """Its process ended while nobody looked; how is not known."""
        self._count_end(None, "exited")

    # -- what shall become of it -------------------------------------------------------------------

    def drain(self) -> None:
        """Serve on, but be no longer counted on; without a process this is the end."""
        self.draining = True
        self._no_start.set()
        self._home.starts.look_again()

    def revive(self) -> None:
        """Undo `drain`, for an instance that was not told to leave."""
        assert not self.leaving
        self.draining = False
        self._no_start.clear()

    def leave(self) -> None:
        """End the process: SIGTERM now, SIGKILL after the drain time. Only for draining instances."""
        assert self.draining
        self._end.set()

    def replace(self, cause: str, detail: str = "") -> None:
        """End the process and start another one in its place, for the reason given; see `Exit`."""
        if not self.leaving:
            self._log.warning("instance is replaced", reason=cause, detail=detail)
            self._cause, self._detail = cause, detail
            self._end.set()

    # -- living ------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep a process running until the instance has left for good."""
        while True:
            if self.process is None:
                await self._back_off()
                self._turn = await self._home.starts.turn(lambda: self.draining)
                if self.draining:
                    self._turn.over()
                    return
                self._start()
            if self.process is not None:
                await self._live(self.process)
            if self.process is None and self.draining:
                return

    async def _back_off(self) -> None:
        wait = 0.0 if self._start_at is None else self._start_at - time.time()
        try:
            async with asyncio.timeout(min(max(0.0, wait), LONGEST)):
                await self._no_start.wait()
        except TimeoutError:
            pass

    def _start(self) -> None:
        home = self._home
        self._start_at = None
        try:
            if not is_free(self.port):
                self._move()
            self.process = processes.start(
                tuple(self._filled(word) for word in self.template.command),
                self._environment(),
                home.base / self.template.cwd,
                home.layout.log(self.name),
            )
        except (CannotStart, Retryable) as error:
            self._count_end(None, "cannot-start", str(error))
            home.changed()
            return
        self._began = time.time()
        home.changed()
        self._log.info("instance started", pid=self.process.pid, port=self.port, revision=self.revision)

    def _move(self) -> None:
        """Somebody else listens on its port; take another one."""
        port = self._home.ports.take()
        self._home.ports.give_back(self.port)
        self.port = port

    def _filled(self, word: str) -> str:
        return placeholders.fill(word, {"port": str(self.port), "version": self.template.version})

    def _environment(self) -> dict[str, str]:
        own = {
            processes.DATA_DIR: str(self._home.data_dir),
            processes.INSTANCE: self.name,
            "PHOENIX_SERVICE": self._home.service,
            "PHOENIX_REVISION": self.revision,
            "PHOENIX_VERSION": self.template.version,
            "PORT": str(self.port),
        }
        given = {name: self._filled(value) for name, value in self.template.env.items()}
        return processes.environment(given, own)

    async def _live(self, process: ProcessId) -> None:
        watch = ExitWatch(process.pid, processes.watcher(process))
        try:
            async with asyncio.TaskGroup() as tasks:
                helpers = (
                    tasks.create_task(self._probe(), name=f"probe {self.name}"),
                    tasks.create_task(self._end_when_told(process), name=f"end {self.name}"),
                )
                await watch.wait()
                self._over(process)
                for helper in helpers:
                    helper.cancel()
        finally:
            watch.close()

    def _over(self, process: ProcessId) -> None:
        """The process has ended: tell everybody before anything else is done."""
        processes.end_leftovers(process)
        code = reap(process.pid)
        asked = self.draining and self.leaving and not self._cause
        self.process = None
        if asked:
            self._log.info("instance left", pid=process.pid)
        else:
            self._count_end(code, self._cause or "exited", self._detail)
        self._readiness, self._ready_since, self._ready_at = Readiness(), None, None
        self._cause, self._detail, self._kill_at = "", "", None
        self._end.clear()
        self._home.changed()

    def _count_end(self, code: int | None, reason: str, detail: str = "") -> None:
        ready_for = time.time() - self._ready_at if self._ready_at is not None else 0.0
        self._backoff = self._backoff.after_end(ready_for)
        self._start_at = time.time() + self._backoff.delay
        if self._turn is not None:
            self._turn.over()
        self._home.ended(self, code, reason, detail)

    # -- health ------------------------------------------------------------------------------------

    async def _probe(self) -> None:
        health = self.template.health
        interval = health.interval.total_seconds()
        pause, settled = min(FIRST_PROBE, interval), False
        while True:
            look = await self._home.probe.look(self.port, health)
            if look is not Look.UNKNOWN:
                self._looked(look is Look.GOOD)
            if settled:
                pause = interval * random.uniform(*SPREAD)  # noqa: S311 - chance, not secrets
            elif self._readiness.been_ready:
                pause, settled = interval * random.random(), True  # noqa: S311
            await asyncio.sleep(pause)
            pause = min(interval, pause * 1.5)

    def _looked(self, good: bool) -> None:
        limit, before = self.template.health.failures, self._readiness
        self._readiness = before.after(good, limit)
        if self._readiness.ready != before.ready:
            ready = self._readiness.ready
            self.been_ready = self.been_ready or ready
            self._ready_since = self._home.clock.now() if ready else None
            self._ready_at = time.time() if ready else None
            if self._turn is not None:
                self._turn.over()
            self._log.info("instance is ready" if ready else "instance is not ready", port=self.port)
            self._home.changed()
        if good or self.draining or self.leaving:
            return
        failures, deadline = self._readiness.failures, self._home.settings.start_deadline
        if self._readiness.unhealthy(limit) and self._home.may_replace(self):
            path = self.template.health.path
            self.replace("unhealthy", f"its health path {path} failed {failures} times in a row")
        elif (
            not self._readiness.been_ready
            and time.time() - self._began > deadline
            and self._home.may_replace(self)
        ):
            waited = format_duration(timedelta(seconds=deadline))
            self.replace("never-ready", f"it was not ready within {waited} of its start")

    # -- ending ------------------------------------------------------------------------------------

    async def _end_when_told(self, process: ProcessId) -> None:
        await self._end.wait()
        if self._cause == "oom":
            self._home.changed()  # the router has to hear of it before the process stops to answer
            await asyncio.sleep(self._home.settings.notice)
        if self._kill_at is None:
            await self._home.look_at_descendants()
            # Signalled first and written down afterwards: killed in between, Phoenix signals twice.
            processes.signal_group(process.pid, signal.SIGTERM)
            self._kill_at = time.time() + self._grace()
            self._home.changed()
        await asyncio.sleep(min(self._grace(), max(0.0, self._kill_at - time.time())))
        while True:
            self._log.warning("instance is killed", pid=process.pid, reason="it did not end by itself")
            processes.signal_group(process.pid, signal.SIGKILL)
            await asyncio.sleep(_KILL_AGAIN)

    def _grace(self) -> float:
        return min(self._home.drain, _OOM_GRACE) if self._cause == "oom" else self._home.drain
