"""One service: what is wanted of each revision, the instances there are, and the way between them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import structlog

from phoenix_orch.kernel.clock import Clock
from phoenix_orch.kernel.errors import Invalid, Retryable
from phoenix_orch.runtime.files import Stamp, stamp
from phoenix_orch.runtime.process_table import boot_id
from phoenix_orch.workload import processes, state_file, strays
from phoenix_orch.workload.adoption import Adopted, adoption
from phoenix_orch.workload.found import Found
from phoenix_orch.workload.instance import SupervisedInstance
from phoenix_orch.workload.log_rotation import forget_logs, rotate
from phoenix_orch.workload.memory_guard import guard_memory
from phoenix_orch.workload.plan import plan
from phoenix_orch.workload.ports import Ports
from phoenix_orch.workload.probe import HealthProbe
from phoenix_orch.workload.processes import Marked, ProcessId
from phoenix_orch.workload.readiness import UNHEALTHY_AFTER
from phoenix_orch.workload.replacing import Replacements, Standing
from phoenix_orch.workload.settings import ProcessSettings
from phoenix_orch.workload.spec import ServiceSpec, Template
from phoenix_orch.workload.starts import Starts
from phoenix_orch.workload.state_file import ServiceRecord
from phoenix_orch.workload.workload import Exit, InstanceState, WorkloadState

EXITS_KEPT = timedelta(hours=1)
EXITS_OF_A_REVISION = 100


@dataclass
class Shared:
    """What all services of one Phoenix have in common."""

    data_dir: Path
    base: Path
    """Relative working directories start here."""
    clock: Clock
    settings: ProcessSettings
    ports: Ports
    published: Callable[[str], None]
    """Called with the service's name after each change."""
    replacements: Replacements
    starts: Starts = field(default_factory=Starts)
    probe: HealthProbe | None = None
    """Set while processes are supervised."""
    seen: Callable[[], Awaitable[object]] | None = None
    """Looks at what instances have started."""


class ServiceSupervisor:
    """Level-triggered: every change wakes `run`, which compares what is with what is wanted."""

    def __init__(self, shared: Shared, service: str, spec: ServiceSpec) -> None:
        self.service = service
        self.spec = spec
        self.data_dir, self.base = shared.data_dir, shared.base
        self.clock, self.settings, self.ports = shared.clock, shared.settings, shared.ports
        self.layout = state_file.Layout(shared.data_dir, service)
        self._shared = shared
        self._boot = boot_id()
        self._wanted: dict[str, int] = {}
        self._templates: dict[str, Template] = {}
        self._instances: list[SupervisedInstance] = []
        self._exits: list[Exit] = []
        self._found = Found()
        self._next_ordinal = 1
        self._stopping = False
        self._wake = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        self._oom_kills = processes.kernel_oom_kills()
        self._unwritten = False
        self._stamp: Stamp | None = None
        """Of the state file as it was written last."""
        self._portless = False
        self._log = structlog.get_logger("phoenix.workload").bind(service=service)

    # -- what is -----------------------------------------------------------------------------------

    def state(self) -> WorkloadState:
        return WorkloadState(
            service=self.service,
            at=self.clock.now(),
            wanted=dict(self._wanted),
            instances=(*(instance.snapshot() for instance in self._instances), *self._found.snapshots()),
            exits=tuple(self._exits),
        )

    def leaders(self) -> dict[str, ProcessId]:
        """The process of each instance that has one."""
        found = {leader.instance: leader.process for leader in self._found.leaders}
        return found | {one.name: one.process for one in self._instances if one.process is not None}

    def templates(self) -> dict[str, Template]:
        """Of every revision that is wanted or has instances."""
        present = {instance.revision for instance in self._instances} | set(self._wanted)
        return {revision: t for revision, t in self._templates.items() if revision in present}

    @property
    def drain(self) -> float:
        return self.spec.drain.total_seconds()

    @property
    def probe(self) -> HealthProbe:
        assert self._shared.probe is not None
        return self._shared.probe

    @property
    def starts(self) -> Starts:
        return self._shared.starts

    def standing(self) -> Standing:
        served = Counter(instance.serves for instance in self._instances)
        return Standing(serving=served[True], failing=served[False])

    # -- what is wanted ----------------------------------------------------------------------------

    def declare(self, spec: ServiceSpec) -> None:
        if spec != self.spec:
            self.spec = spec
            self._take_what_is_declared()
            self.changed()

    def scale(self, template: Template, count: int) -> None:
        revision = template.revision
        if count < 0:
            raise Invalid(f"{count} instances of {self.service} cannot be", remedy="want 0 or more")
        taken = self._take(template) if self._found else 0
        if self._wanted.get(revision, 0) == count and not taken:
            return
        self._templates[revision] = template
        self._wanted[revision] = count
        if count == 0:
            del self._wanted[revision]
        self._log.info("instances wanted", revision=revision, count=count)
        self.changed()

    def release(self, routed: frozenset[str]) -> None:
        leaving = [
            instance
            for instance in self._instances
            if instance.draining and not instance.leaving and instance.name not in routed
        ]
        for instance in leaving:
            instance.leave()
        if self._found and self._complete():
            self._end_found(self._found.let_go(routed))

    def restart(self) -> None:
        for instance in self._instances:
            instance.retiring = not instance.draining
        self._log.info("restart")
        self.changed()

    def stop(self) -> None:
        """Want nothing, and wait for nobody's release."""
        self._stopping = True
        self._wanted.clear()
        for instance in self._instances:
            instance.drain()
            instance.leave()
        self.changed()

    # -- taking over -------------------------------------------------------------------------------

    def adopt(self, kept: ServiceRecord, running: Sequence[Marked]) -> list[Marked]:
        """Go on where a supervisor that died stopped; returns the marked processes that belong to nobody."""
        found = adoption(kept, running, processes.is_alive, self._boot)
        self._templates = dict(kept.templates)
        self._wanted = dict(kept.state.wanted)
        self._exits = list(kept.state.exits)
        self._next_ordinal = found.next_ordinal
        for adopted in found.instances:
            instance = self._join(adopted, self._templates[adopted.instance.revision])
            if adopted.missed:
                instance.missed()
        self.find(found.found)
        running_now = sum(adopted.process is not None for adopted in found.instances)
        if found.instances:
            self._log.info("instances adopted", running=running_now, ended=len(found.instances) - running_now)
        kept_back = {leader.instance for leader in found.found}
        own = [m for m in running if m.service == self.service and m.instance not in kept_back]
        return [m for m in own if not found.owns(m)]

    def find(self, leaders: Sequence[Marked]) -> None:
        """Hold processes of which nothing is known but their marks, until their template is told."""
        self._found.add(leaders)
        for port in self._found.ports:
            self.ports.keep(port)
        self._next_ordinal = max(self._next_ordinal, self._found.highest_ordinal + 1)
        self._take_what_is_declared()

    def _take_what_is_declared(self) -> None:
        template = self.spec.template()
        taken = self._take(template) if self._found else 0
        if taken:
            # So many until somebody says otherwise: nothing that serves is ended on a guess.
            self._wanted.setdefault(template.revision, taken)

    def _take(self, template: Template) -> int:
        """Go on with the found processes of a revision; how many."""
        present = [Adopted(i.snapshot(), i.record(), i.process) for i in self._instances]
        adopted = self._found.take(template, present)
        if adopted:
            self._templates[template.revision] = template
            names = [one.instance.name for one in adopted]
            self._log.info("instances adopted by their marks", instances=names)
        for one in adopted:
            instance = self._join(one, template)
            if self._tasks is not None:
                self._tasks.create_task(self._accompany(instance), name=instance.name)
        return len(adopted)

    def _join(self, adopted: Adopted, template: Template) -> SupervisedInstance:
        name, port = adopted.instance.name, adopted.instance.port
        instance = SupervisedInstance(self, name, adopted.record.ordinal, template, port)
        instance.adopt(adopted.instance, adopted.record, adopted.process)
        self._instances.append(instance)
        self.ports.keep(port)
        return instance

    def _complete(self) -> bool:
        """Everybody who is wanted is ready."""
        ready = Counter(i.revision for i in self._instances if i.state is InstanceState.READY)
        return bool(self._wanted) and all(ready[r] >= count for r, count in self._wanted.items())

    def _end_found(self, leaders: Sequence[Marked]) -> None:
        if leaders and self._tasks is not None:
            self._tasks.create_task(self._end(leaders), name=f"found of {self.service}")

    async def _end(self, leaders: Sequence[Marked]) -> None:
        await strays.end(leaders, self.drain)
        for leader in leaders:
            if leader.port is not None:
                self.ports.give_back(leader.port)
            left_over = await asyncio.to_thread(processes.marked, self.data_dir, leader.instance)
            await strays.end(left_over, self.settings.stray_grace)
        self.changed()

    # -- supervising -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep what is wanted running; returns after `stop` when everything has ended."""
        self.changed()
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            keeping = (
                tasks.create_task(self._keep_house(), name=f"house of {self.service}"),
                tasks.create_task(
                    guard_memory(lambda: self._instances, self.settings.memory_interval),
                    name=f"memory of {self.service}",
                ),
            )
            for instance in self._instances:
                tasks.create_task(self._accompany(instance), name=instance.name)
            while self._instances or not self._stopping:
                self._wake.clear()
                self._reconcile()
                await self._wake.wait()
            if self._found:
                await self._end(self._found.let_go(()))
            for task in keeping:
                task.cancel()

    def changed(self) -> None:
        """Publish now; think about what follows in the next turn of the event loop."""
        self._publish()
        self._wake.set()

    def _reconcile(self) -> None:
        revisions = {instance.revision for instance in self._instances} | set(self._wanted)
        acted = False
        for revision in sorted(revisions):
            acted = self._carry_out(revision) or acted
        for instance in self._instances:
            if instance.draining and not instance.leaving and not instance.been_ready:
                instance.leave()  # no router has ever heard of it
        if acted:
            self._publish()

    def _carry_out(self, revision: str) -> bool:
        """One revision's plan; True when anything was changed."""
        own = [instance for instance in self._instances if instance.revision == revision]
        todo = plan([instance.member() for instance in own], self._wanted.get(revision, 0))
        for instance in own:
            if instance.name in todo.drain:
                instance.drain()
            if instance.name in todo.revive:
                instance.revive()
        try:
            for _ in range(todo.start):
                self._add(self._templates[revision])
        except Retryable as error:  # no port; housekeeping wakes us again
            if not self._portless:
                self._log.error(error.message, remedy=error.remedy)
            self._portless = True
        else:
            self._portless = False
        return bool(todo.start or todo.drain or todo.revive)

    def _add(self, template: Template) -> None:
        """Make an instance known before its process is started, so that no process is unknown."""
        assert self._tasks is not None
        ordinal, self._next_ordinal = self._next_ordinal, self._next_ordinal + 1
        name = f"{self.service}-{template.revision}-{ordinal}"
        instance = SupervisedInstance(self, name, ordinal, template, self.ports.take())
        self._instances.append(instance)
        self._tasks.create_task(self._accompany(instance), name=name)

    async def _accompany(self, instance: SupervisedInstance) -> None:
        await instance.run()
        self._instances.remove(instance)
        self.ports.give_back(instance.port)
        self.changed()
        left_over = await asyncio.to_thread(processes.marked, self.data_dir, instance.name)
        await strays.end(left_over, self.settings.stray_grace)

    # -- what instances ask ------------------------------------------------------------------------

    def ended(self, instance: SupervisedInstance, code: int | None, reason: str, detail: str) -> None:
        if reason == "exited" and code == -9:
            reason = "oom" if self._kernel_was_short_of_memory() else "killed"
        self._log.warning("instance ended", instance=instance.name, reason=reason, detail=detail, code=code)
        self._exits.append(
            Exit(
                instance=instance.name,
                revision=instance.revision,
                at=self.clock.now(),
                code=code,
                reason=reason,
                detail=detail,
            )
        )

    async def look_at_descendants(self) -> None:
        if self._shared.seen is not None:
            await self._shared.seen()

    def may_replace(self, instance: SupervisedInstance) -> bool:
        """One at a time: when all fail their health path, what they share is broken, not they."""
        health = instance.template.health
        pause = UNHEALTHY_AFTER * health.failures * health.interval.total_seconds()
        now = asyncio.get_running_loop().time()
        return self._shared.replacements.may_begin(self.service, now, pause)

    def _kernel_was_short_of_memory(self) -> bool:
        """The kernel has killed for memory since we last asked: the best guess there is at a SIGKILL."""
        before, self._oom_kills = self._oom_kills, processes.kernel_oom_kills()
        return before is not None and self._oom_kills is not None and self._oom_kills > before

    # -- housekeeping ------------------------------------------------------------------------------

    async def _keep_house(self) -> None:
        settings = self.settings
        while True:
            await asyncio.sleep(settings.housekeeping)
            lost = stamp(self.layout.state) != self._stamp
            if self._found.prune(processes.is_alive) or self._unwritten or lost:
                self._publish()
            if self._portless:
                self._wake.set()
            self._oom_kills = processes.kernel_oom_kills()
            await asyncio.to_thread(self._keep_logs, {i.name for i in self._instances})

    def _keep_logs(self, present: set[str]) -> None:
        for name in sorted(present):
            try:
                rotate(self.layout.log(name), self.settings.log_size, self.settings.log_keep)
            except OSError as error:
                self._log.warning("log cannot be rotated", instance=name, error=str(error))
        forget_logs(self.layout.logs, present, self.settings.log_instances)

    # -- publishing --------------------------------------------------------------------------------

    def _publish(self) -> None:
        self._forget_the_past()
        state = self.state()
        record = ServiceRecord(
            boot=self._boot,
            spec=self.spec,
            templates=self._templates,
            next_ordinal=self._next_ordinal,
            state=state,
            records={instance.name: instance.record() for instance in self._instances},
        )
        try:
            state_file.write(self.layout.state, record)
        except OSError as error:
            if not self._unwritten:
                self._log.error("state cannot be written; supervising goes on", error=str(error))
            self._unwritten = True
        else:
            if self._unwritten:
                self._log.info("state is written again")
            self._unwritten = False
            self._stamp = stamp(self.layout.state)
        self._shared.published(self.service)

    def _forget_the_past(self) -> None:
        self._templates = self.templates()
        since, kept = self.clock.now() - EXITS_KEPT, dict[str, int]()
        recent: list[Exit] = []
        for end in reversed(self._exits):
            kept[end.revision] = kept.get(end.revision, 0) + 1
            if end.at >= since and kept[end.revision] <= EXITS_OF_A_REVISION:
                recent.append(end)
        self._exits = recent[::-1]
