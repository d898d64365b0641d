"""The workload of one machine: services as supervised processes that outlive their supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

import structlog

from phoenix_orch.kernel.clock import Clock, RealClock
from phoenix_orch.kernel.errors import BadState, Invalid, NotFound
from phoenix_orch.runtime.detached import Process
from phoenix_orch.runtime.files import make_private
from phoenix_orch.runtime.held_lock import HeldLock, keep_held
from phoenix_orch.workload import descendants, processes, state_file, strays
from phoenix_orch.workload.adoption import led
from phoenix_orch.workload.descendants import Descendants
from phoenix_orch.workload.ports import Ports
from phoenix_orch.workload.probe import HealthProbe
from phoenix_orch.workload.processes import Marked, ProcessId
from phoenix_orch.workload.replacing import Replacements
from phoenix_orch.workload.settings import ProcessSettings
from phoenix_orch.workload.spec import ServiceSpec, Template
from phoenix_orch.workload.state_file import ServiceRecord
from phoenix_orch.workload.supervisor import ServiceSupervisor, Shared
from phoenix_orch.workload.workload import WorkloadState

_STRIDE = 397
"""Ports between the first ones of two Phoenixes with neighbouring pids: both may find a port free in the
quarter of a second that a program takes to listen on it, and then one of them dies of it."""

_log = structlog.get_logger("phoenix.workload")


class ProcessWorkload:
    """The `Workload` of one data directory. `run` supervises; `stop` ends everything in order.

    An instance that leaves goes on serving until `release` says that the router has let go of it,
    for as long as that takes: one that serves too long costs memory, one that ends too early costs
    requests. Only `stop`, and an instance that has never been ready, wait for nobody. An instance
    that ends while it leaves is not started again.

    Wherever this process is killed, the next one takes over what runs; see `adoption`.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        settings: ProcessSettings | None = None,
        clock: Clock | None = None,
        base: Path | None = None,
    ) -> None:
        """`clock`: for the moments in the state; real time unless a test says otherwise, because
        processes live in real time. `base`: where relative working directories start."""
        settings = settings or ProcessSettings()
        self._data_dir = data_dir.expanduser().resolve()
        self.changed = asyncio.Event()
        """Set after every change of any service; the one who waits for it clears it."""
        self._changed: set[str] = set()
        self._shared = Shared(
            data_dir=self._data_dir,
            base=base or Path.cwd(),
            clock=clock or RealClock(),
            settings=settings,
            ports=Ports(settings.ports, start=os.getpid() * _STRIDE),
            published=self._published,
            replacements=Replacements(lambda: {n: found.standing() for n, found in self._services.items()}),
        )
        self._services: dict[str, ServiceSupervisor] = {}
        self._lock: HeldLock | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._stopping = asyncio.Event()
        self._finished = asyncio.Event()
        self._descendants = Descendants(self._data_dir, self._leaders)
        self._shared.seen = self._descendants.look
        self._strays: list[Marked] = []
        self._held: dict[str, list[Marked]] = {}

    def take_changed(self) -> frozenset[str]:
        """The services that changed since the last call. Clears `changed`."""
        self.changed.clear()
        services, self._changed = frozenset(self._changed), set()
        return services

    def _published(self, service: str) -> None:
        self._changed.add(service)
        self.changed.set()

    # -- what is and what is wanted ----------------------------------------------------------------

    async def state(self, service: str) -> WorkloadState:
        return (await self._service(service)).state()

    async def services(self) -> tuple[str, ...]:
        await self._open()
        return tuple(sorted(self._services))

    async def declare(self, service: str, spec: ServiceSpec) -> None:
        await self._open()
        if service in self._services:
            self._services[service].declare(spec)
            return
        self._services[service] = supervisor = ServiceSupervisor(self._shared, service, spec)
        supervisor.find(self._held.pop(service, []))
        self._supervise(supervisor)

    async def templates(self, service: str) -> Mapping[str, Template]:
        return (await self._service(service)).templates()

    async def scale(self, service: str, template: Template, count: int) -> None:
        (await self._service(service)).scale(template, count)

    async def release(self, service: str, routed: frozenset[str]) -> None:
        (await self._service(service)).release(routed)

    async def restart(self, service: str) -> None:
        (await self._service(service)).restart()

    async def _service(self, service: str) -> ServiceSupervisor:
        await self._open()
        if service not in self._services:
            known = ", ".join(sorted(self._services)) or "none"
            raise NotFound(f"there is no service {service!r}", remedy=f"services: {known}")
        return self._services[service]

    # -- supervising -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Supervise until cancelled; processes then go on by themselves, to be adopted.

        Returns after `stop`. Raises BadState when another process supervises this data directory.
        """
        await self._open()
        if self._tasks is not None:
            raise BadState("these services are supervised already", remedy="run it once")
        self._finished.clear()
        try:
            with HealthProbe() as self._shared.probe:
                await self._run()
        finally:
            self._tasks = None
            self._finished.set()

    async def _run(self) -> None:
        assert self._lock is not None
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            for supervisor in self._services.values():
                self._supervise(supervisor)
            tasks.create_task(self._end_strays(), name="strays")
            keeping = (
                tasks.create_task(keep_held(self._lock), name="lock of the services"),
                tasks.create_task(self._follow_descendants(tasks), name="descendants"),
            )
            await self._stopping.wait()
            for supervisor in self._services.values():
                supervisor.stop()
            held = [leader for leaders in self._held.values() for leader in leaders]
            self._held.clear()
            await strays.end(held, self._shared.settings.stray_grace)
            for task in keeping:
                task.cancel()
        await self._descendants.end_all(self._shared.settings.stray_grace)

    async def stop(self) -> None:
        """End everything in order: SIGTERM, requests under way finish, SIGKILL after the drain time.

        Nothing is asked of the router: end it first. Works beside a `run`, after a cancelled one, and
        for what a Phoenix that died left behind. Frees the data directory; nothing is wanted any more.
        """
        self._stopping.set()
        try:
            if self._tasks is not None:
                await self._finished.wait()
            else:
                await self.run()
        finally:
            self._stopping.clear()
            self.close()

    def close(self) -> None:
        """Let another process supervise this data directory. Ends nothing. Cancel `run` first."""
        self._services.clear()
        self._held.clear()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _supervise(self, supervisor: ServiceSupervisor) -> None:
        if self._tasks is not None:
            self._tasks.create_task(supervisor.run(), name=f"supervisor of {supervisor.service}")

    # -- taking over -------------------------------------------------------------------------------

    async def _open(self) -> None:
        """Become the one supervisor of the directory and adopt what runs. Once; cheap afterwards."""
        if self._lock is not None:
            return
        try:
            make_private(self._data_dir)
            lock = HeldLock(self._data_dir / "workload.lock")
            taken = lock.take()
        except OSError as error:
            raise Invalid(
                f"{self._data_dir} cannot be used: {error.strerror}", remedy="name another data directory"
            ) from None
        if not taken:
            raise BadState(
                f"another Phoenix supervises the services in {self._data_dir}",
                remedy="stop it first, or name another directory with --data-dir",
            )
        self._lock = lock
        self._descendants.take_over()
        self._adopt(processes.marked(self._data_dir))

    def _adopt(self, running: list[Marked]) -> None:
        unknown = {marked.process: marked for marked in running}
        for service in state_file.services(self._data_dir):
            kept = self._kept(service)
            if kept is None:
                continue
            supervisor = ServiceSupervisor(self._shared, service, kept.spec)
            left_over = {marked.process for marked in supervisor.adopt(kept, running)}
            for marked in running:
                if marked.service == service and marked.process not in left_over:
                    unknown.pop(marked.process, None)
            self._services[service] = supervisor
        self._hold(unknown)
        self._strays = list(unknown.values())

    def _kept(self, service: str) -> ServiceRecord | None:
        path = state_file.Layout(self._data_dir, service).state
        try:
            return state_file.read(path)
        except Invalid as error:
            _log.error(error.message, remedy="its processes serve on and are adopted by their marks")
            with contextlib.suppress(OSError):
                path.replace(path.with_suffix(".damaged"))
            return None

    def _hold(self, unknown: dict[ProcessId, Marked]) -> None:
        """Take out of `unknown` what runs for services of which nothing is written down.

        It serves on until its service is declared, and in any case until `stop`.
        """
        lost = [m for m in unknown.values() if m.service and m.service not in self._services]
        leaders = led(lost)
        for leader in leaders.values():
            self._held.setdefault(leader.service, []).append(leader)
        for marked in lost:
            if marked.instance in leaders:
                del unknown[marked.process]

    def _leaders(self) -> dict[str, ProcessId]:
        every = (supervisor.leaders() for supervisor in self._services.values())
        return {name: process for leaders in every for name, process in leaders.items()}

    async def _follow_descendants(self, tasks: asyncio.TaskGroup) -> None:
        """What an instance started ends when its process has ended."""
        settings = self._shared.settings
        ending: dict[Process, asyncio.Task[None]] = {}
        while True:
            for family in await self._descendants.look():
                if family.leader not in ending or ending[family.leader].done():
                    end = descendants.end(family.instance, family.members, settings.stray_grace)
                    ending[family.leader] = tasks.create_task(end, name=f"descendants of {family.instance}")
            ending = {leader: task for leader, task in ending.items() if not task.done()}
            await asyncio.sleep(settings.housekeeping)

    async def _end_strays(self) -> None:
        """Processes started in the moment before a supervisor died, and what gone instances left."""
        unknown, self._strays = self._strays, []
        await strays.end(unknown, self._shared.settings.stray_grace)
