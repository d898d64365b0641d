"""Which running process belongs to which instance, after a supervisor was killed at any moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from phoenix_orch.workload.processes import Marked, ProcessId
from phoenix_orch.workload.spec import Template
from phoenix_orch.workload.state_file import InstanceRecord, ServiceRecord
from phoenix_orch.workload.workload import Instance, InstanceState


@dataclass(frozen=True, slots=True)
class Adopted:
    """An instance to go on with, and its process if that still runs."""

    instance: Instance
    record: InstanceRecord
    process: ProcessId | None
    missed: bool = False
    """Its process ended while nobody looked."""


@dataclass(slots=True)
class Adoption:
    """What to take over of one service."""

    instances: list[Adopted] = field(default_factory=list)
    next_ordinal: int = 1
    found: list[Marked] = field(default_factory=list)
    """Leaders that were found before, and of which it is still not known what they are made of."""

    def owns(self, marked: Marked) -> bool:
        """The process belongs to one of the instances, as its leader or as something it started."""
        for adopted in self.instances:
            if adopted.instance.name == marked.instance and adopted.process is not None:
                process = adopted.process
                return marked.process == process or not marked.leads or process.pid in marked.ancestors
        return False


def adoption(
    kept: ServiceRecord, running: Sequence[Marked], alive: Callable[[ProcessId], bool], boot: str
) -> Adoption:
    """Match the last state written with what runs.

    `running`: all marked processes. `alive` tells whether a process of the state file still runs.
    `boot`: the present run of the kernel; ends in an earlier one are nobody's fault.
    """
    found = Adoption(next_ordinal=kept.next_ordinal)
    leaders = [m for m in running if m.leads and m.service == kept.state.service]
    for instance in kept.state.instances:
        if instance.name in kept.records and instance.revision in kept.templates:
            record = kept.records[instance.name]
            process = _process_of(instance, leaders, alive)
            if process is not None or instance.state is not InstanceState.DRAINING:
                missed = process is None and instance.pid is not None and kept.boot == boot
                found.instances.append(Adopted(instance, record, process, missed))
    known = {instance.name for instance in kept.state.instances if instance.name in kept.records}
    nameless = {instance.name for instance in kept.state.instances} - known
    for leader in led(leaders).values():
        template = kept.templates.get(leader.revision)
        if leader.instance in known:
            continue
        # One that is not in the file was started while the file could not be written. It may be serving.
        if template is not None and (unwritten := by_its_marks(leader, template, found.instances)):
            found.instances.append(unwritten)
        elif leader.instance in nameless:
            found.found.append(leader)
    highest = max((adopted.record.ordinal for adopted in found.instances), default=0)
    found.next_ordinal = max(found.next_ordinal, highest + 1)
    return found


def _process_of(
    instance: Instance, leaders: Iterable[Marked], alive: Callable[[ProcessId], bool]
) -> ProcessId | None:
    """The process that was written down, or one started since that nobody came to write down."""
    leaders = list(leaders)
    if instance.pid is not None and instance.started is not None:
        process = ProcessId(instance.pid, instance.started)
        stranger = any(m.process.pid == process.pid and m.instance != instance.name for m in leaders)
        if alive(process) and not stranger:
            return process
    own = [m for m in leaders if m.instance == instance.name and m.revision == instance.revision]
    own = [m for m in own if m.port in {None, instance.port}]
    return max((m.process for m in own), key=lambda process: process.started, default=None)


def led(running: Iterable[Marked]) -> dict[str, Marked]:
    """The process of each instance, by its marks alone: the newest leader that no other one started."""
    leaders = [marked for marked in running if marked.leads]
    pids = {(marked.instance, marked.process.pid) for marked in leaders}
    found: dict[str, Marked] = {}
    for leader in sorted(leaders, key=lambda marked: marked.process.started):
        if not any((leader.instance, pid) in pids for pid in leader.ancestors):
            found[leader.instance] = leader
    return found


def by_its_marks(leader: Marked, template: Template, taken: Iterable[Adopted]) -> Adopted | None:
    """The instance that a process says it is. None: it does not say enough, or another one is that."""
    ordinal = ordinal_of(leader.instance)
    used = any(a.instance.port == leader.port or a.instance.name == leader.instance for a in taken)
    if leader.port is None or ordinal is None or used:
        return None
    instance = Instance(
        name=leader.instance,
        revision=leader.revision,
        state=InstanceState.STARTING,
        port=leader.port,
        metrics_path=template.metrics,
    )
    return Adopted(instance, InstanceRecord(ordinal=ordinal, been_ready=True), leader.process)


def ordinal_of(instance: str) -> int | None:
    """The number at the end of an instance's name."""
    number = instance.rpartition("-")[2]
    return int(number) if number.isdecimal() else None
