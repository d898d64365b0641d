"""A Workload in memory, under the same rules as the real one; a test decides what its processes do."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime

from phoenix_orch.kernel.clock import Clock, RealClock
from phoenix_orch.kernel.errors import Invalid, NotFound
from phoenix_orch.workload.plan import Member, plan
from phoenix_orch.workload.spec import ServiceSpec, Template
from phoenix_orch.workload.workload import Exit, Instance, InstanceState, WorkloadState

_FIRST_PID = 100_001
_FIRST_PORT = 20_000


@dataclass
class _Process:
    """One instance and what a test did to it."""

    name: str
    ordinal: int
    template: Template
    port: int
    pid: int | None
    started: float | None
    ready_since: datetime | None = None
    was_ready: bool = False
    been_ready: bool = False
    draining: bool = False
    retiring: bool = False

    @property
    def state(self) -> InstanceState:
        if self.draining:
            return InstanceState.DRAINING
        if self.pid is None:
            return InstanceState.BACKOFF
        if self.ready_since is not None:
            return InstanceState.READY
        return InstanceState.UNREADY if self.was_ready else InstanceState.STARTING

    def member(self) -> Member:
        return Member(self.name, self.ordinal, self.state, retiring=self.retiring)

    def snapshot(self) -> Instance:
        return Instance(
            name=self.name,
            revision=self.template.revision,
            state=self.state,
            pid=self.pid,
            started=self.started,
            port=self.port,
            ready_since=self.ready_since,
            metrics_path=self.template.metrics,
        )


@dataclass
class _Service:
    spec: ServiceSpec
    wanted: dict[str, int] = field(default_factory=dict)
    templates: dict[str, Template] = field(default_factory=dict)
    processes: list[_Process] = field(default_factory=list)
    exits: list[Exit] = field(default_factory=list)
    next_ordinal: int = 1


class FakeWorkload:
    """Passes `workload_contract`. No process runs; everything happens within the call that causes it.

    With `ready_at_once` an instance is ready as soon as it starts; without, when `make_ready` says so.
    Ends are immediate, so there is no drain time.
    """

    def __init__(self, clock: Clock | None = None, *, ready_at_once: bool = True) -> None:
        self.ready_at_once = ready_at_once
        self.changed = asyncio.Event()
        """Set after every change; whoever waits for it clears it."""
        self._clock = clock or RealClock()
        self._services: dict[str, _Service] = {}
        self._next_pid = _FIRST_PID
        self._next_port = _FIRST_PORT

    # What tests do to it.

    def make_ready(self, instance: str) -> None:
        """The instance answers its health path."""
        service, process = self._find(instance)
        if process.pid is not None:
            self._ready(process)
        self._settle(service)

    def make_unready(self, instance: str) -> None:
        """The instance runs and fails its health path."""
        service, process = self._find(instance)
        process.ready_since = None
        self._settle(service)

    def crash(
        self, instance: str, *, code: int | None = 1, reason: str = "exited", restart: bool = True
    ) -> None:
        """The process ends by itself. Without `restart` it stays in back-off until `start`."""
        service, process = self._find(instance)
        self._services[service].exits.append(
            Exit(
                instance=process.name,
                revision=process.template.revision,
                at=self._clock.now(),
                code=code,
                reason=reason,
            )
        )
        process.pid = process.started = process.ready_since = None
        process.was_ready = False
        if process.draining:
            self._services[service].processes.remove(process)
        elif restart:
            self._start(process)
        self._settle(service)

    def start(self, instance: str) -> None:
        """The back-off of a crashed instance is over."""
        service, process = self._find(instance)
        if process.pid is None:
            self._start(process)
        self._settle(service)

    # What everybody does with it.

    async def state(self, service: str) -> WorkloadState:
        known = self._get(service)
        return WorkloadState(
            service=service,
            at=self._clock.now(),
            wanted=dict(known.wanted),
            instances=tuple(process.snapshot() for process in known.processes),
            exits=tuple(known.exits),
        )

    async def declare(self, service: str, spec: ServiceSpec) -> None:
        self._services.setdefault(service, _Service(spec)).spec = spec

    async def templates(self, service: str) -> dict[str, Template]:
        known = self._get(service)
        present = {process.template.revision for process in known.processes} | set(known.wanted)
        return {revision: template for revision, template in known.templates.items() if revision in present}

    async def scale(self, service: str, template: Template, count: int) -> None:
        known, revision = self._get(service), template.revision
        if count < 0:
            raise Invalid(f"{count} instances of {service} cannot be", remedy="want 0 or more")
        known.templates[revision] = template
        known.wanted[revision] = count
        if count == 0:
            del known.wanted[revision]
        self._settle(service)

    async def release(self, service: str, routed: frozenset[str]) -> None:
        known = self._get(service)
        known.processes = [p for p in known.processes if not p.draining or p.name in routed]
        self._settle(service)

    async def restart(self, service: str) -> None:
        for process in self._get(service).processes:
            process.retiring = not process.draining
        self._settle(service)

    def _settle(self, service: str) -> None:
        """Carry plans out until they ask for nothing more."""
        known, acted = self._services[service], True
        while acted:
            acted = False
            for revision in {p.template.revision for p in known.processes} | set(known.wanted):
                acted = self._carry_out(service, known, revision) or acted
            known.processes = [p for p in known.processes if not p.draining or p.been_ready]
        self.changed.set()

    def _carry_out(self, service: str, known: _Service, revision: str) -> bool:
        own = [process for process in known.processes if process.template.revision == revision]
        todo = plan([process.member() for process in own], known.wanted.get(revision, 0))
        for process in own:
            process.draining = (process.draining or process.name in todo.drain) and (
                process.name not in todo.revive
            )
            if process.draining and process.pid is None:
                known.processes.remove(process)
        for _ in range(todo.start):
            name = f"{service}-{revision}-{known.next_ordinal}"
            process = _Process(
                name, known.next_ordinal, known.templates[revision], self._next_port, None, None
            )
            known.next_ordinal += 1
            self._next_port += 1
            known.processes.append(process)
            self._start(process)
        return bool(todo.start or todo.drain or todo.revive)

    def _start(self, process: _Process) -> None:
        process.pid, self._next_pid = self._next_pid, self._next_pid + 1
        process.started = self._clock.now().timestamp()
        if self.ready_at_once:
            self._ready(process)

    def _ready(self, process: _Process) -> None:
        process.ready_since = process.ready_since or self._clock.now()
        process.was_ready = process.been_ready = True

    def _get(self, service: str) -> _Service:
        if service not in self._services:
            raise NotFound(f"there is no service {service!r}", remedy="declare it first")
        return self._services[service]

    def _find(self, instance: str) -> tuple[str, _Process]:
        for service, known in self._services.items():
            for process in known.processes:
                if process.name == instance:
                    return service, process
        raise NotFound(f"there is no instance {instance!r}", remedy="state() shows those there are")
