"""The workload of one machine: services as supervised processes that outlive their supervisor."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
from pathlib import Path
from typing import IO

import structlog

from phoenix_orch.kernel.clock import Clock, RealClock
from phoenix_orch.kernel.errors import BadState, Invalid, NotFound
from phoenix_orch.workload import processes, state_file
from phoenix_orch.workload.ports import Ports
from phoenix_orch.workload.probe import HealthProbe
from phoenix_orch.workload.processes import Marked
from phoenix_orch.workload.settings import ProcessSettings
from phoenix_orch.workload.spec import ServiceSpec, Template
from phoenix_orch.workload.supervisor import ServiceSupervisor, Shared
from phoenix_orch.workload.workload import WorkloadState

_log = structlog.get_logger("phoenix.workload")


class ProcessWorkload:
    """The `Workload` of one data directory. `run` supervises; `stop` ends everything in order."""

    def __init__(
        self,
        data_dir: Path,
        *,
        settings: ProcessSettings | None = None,
        clock: Clock | None = None,
        base: Path | None = None,
    ) -> None:
        settings = settings or ProcessSettings()
        self._data_dir = data_dir.expanduser().resolve()
        self.changed = asyncio.Event()
        """Set after every change; whoever waits for it clears it."""
        self._shared = Shared(
            data_dir=self._data_dir,
            base=base or Path.cwd(),
            clock=clock or RealClock(),
            settings=settings,
            ports=Ports(settings.ports, start=os.getpid()),
            published=lambda _service: self.changed.set(),
        )
        self._services: dict[str, ServiceSupervisor] = {}
        self._lock: IO[str] | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._strays: list[Marked] = []

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
        self._supervise(supervisor)

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

        Raises BadState when another process supervises this data directory.
        """
        await self._open()
        async with HealthProbe() as probe:
            self._shared.probe = probe
            try:
                async with asyncio.TaskGroup() as tasks:
                    self._tasks = tasks
                    for supervisor in self._services.values():
                        self._supervise(supervisor)
                    tasks.create_task(self._end_strays(), name="strays")
                    await asyncio.Event().wait()
            finally:
                self._tasks = None

    async def stop(self) -> None:
        """End everything in order: SIGTERM, requests under way finish, SIGKILL after the drain time.

        Call it when `run` has been cancelled. Frees the data directory.
        """
        await self._open()
        async with HealthProbe() as probe:
            self._shared.probe = probe
            for supervisor in self._services.values():
                supervisor.stop()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._end_strays())
                for supervisor in self._services.values():
                    tasks.create_task(supervisor.run())
        self.close()

    def close(self) -> None:
        """Let another process supervise this data directory. Ends nothing."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _supervise(self, supervisor: ServiceSupervisor) -> None:
        if self._tasks is not None:
            self._tasks.create_task(supervisor.run(), name=f"supervisor of {supervisor.service}")

    # -- taking over -------------------------------------------------------------------------------

    async def _open(self) -> None:
        """Become the one supervisor of the directory and adopt what runs. Once; cheap afterwards."""
        if self._lock is not None:
            return
        self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = (self._data_dir / "workload.lock").open("a", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise BadState(
                f"another Phoenix supervises the services in {self._data_dir}",
                remedy="stop it first, or name another directory with --data-dir",
            ) from None
        self._lock = file
        self._adopt(processes.marked(self._data_dir))

    def _adopt(self, running: list[Marked]) -> None:
        unknown = {marked.process: marked for marked in running}
        for service in state_file.services(self._data_dir):
            own = [marked for marked in running if marked.service == service]
            path = state_file.Layout(self._data_dir, service).state
            try:
                kept = state_file.read(path)
            except Invalid as error:
                _log.error(error.message, remedy="its processes are ended and started anew")
                path.replace(path.with_suffix(".damaged"))
                continue
            supervisor = ServiceSupervisor(self._shared, service, kept.spec)
            left_over = {marked.process for marked in supervisor.adopt(kept, running)}
            for marked in own:
                if marked.process not in left_over:
                    unknown.pop(marked.process, None)
            self._services[service] = supervisor
        self._strays = list(unknown.values())

    async def _end_strays(self) -> None:
        """End marked processes that no instance owns: started in the moment before a supervisor died."""
        strays, self._strays = self._strays, []
        for stray in strays:
            _log.warning(
                "a process that belongs to nobody is ended", pid=stray.process.pid, instance=stray.instance
            )
            processes.signal_process(stray.process, signal.SIGTERM)
        deadline = asyncio.get_running_loop().time() + self._shared.settings.stray_grace
        while any(processes.is_alive(stray.process) for stray in strays):
            if asyncio.get_running_loop().time() > deadline:
                for stray in strays:
                    processes.signal_process(stray.process, signal.SIGKILL)
            await asyncio.sleep(0.05)
