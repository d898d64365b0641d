"""From counters to one observation. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from phoenix_orch.health_validator import counters, histogram
from phoenix_orch.health_validator.config import PATIENCE
from phoenix_orch.health_validator.counters import Deltas, Increase, Sample
from phoenix_orch.health_validator.observation import Arm, Observation, Quality
from phoenix_orch.health_validator.sources import serving
from phoenix_orch.health_validator.sources.exposition import split
from phoenix_orch.health_validator.sources.processes import Processes, kernel_name
from phoenix_orch.health_validator.sources.source import Context, Reading, SourceMemory


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that was read at one moment, by the wall clock in seconds since 1970."""

    wall: float
    cores: int
    traffic: Mapping[str, tuple[str, ...]]
    """By revision: who counts its requests; names of samples that should be there."""
    samples: Sequence[Sample]
    """Of whoever counts requests, besides the processes."""
    processes: Processes
    faults: tuple[str, ...] = ()
    outside: bool = False
    """Who counts requests is none of the processes, and counts also what reached none of them."""

    @property
    def everything(self) -> list[Sample]:
        return [*self.samples, *self.processes.samples]

    @property
    def series(self) -> int:
        """How many there are in all."""
        return sum(len(sample.series) for sample in self.everything)


Sums = Mapping[tuple[str, str, str], int | float]
"""Increases of one process by revision, kind and name of the series, over all its labels."""


def assemble(context: Context, memory: SourceMemory, snapshot: Snapshot) -> Reading:
    """The observation of this moment, and what to remember for the next one."""
    tracker, deltas = counters.update(memory.tracker, snapshot.everything, snapshot.wall)
    sums = {name: _sums(found) for name, found in deltas.increases.items()}
    canary, *others = (
        _served(context, memory, snapshot, _arm(context, snapshot, deltas, sums, revision))
        for revision in context.revisions
    )
    stable = others[0] if others else None
    still = memory.still
    if canary.quality in (Quality.OK, Quality.MERGED):
        beside = stable.arrived if stable is not None else 0
        still = counters.stand_still(still, canary=canary.arrived, stable=beside, weight=context.weight)
        if still.stale:
            canary = canary.model_copy(update={"quality": Quality.STALE})
    observation = Observation(
        t0=context.t0,
        t1=context.t1,
        revision=context.revision,
        step=context.step,
        weight_applied=context.weight,
        canary=canary,
        stable=stable,
        notes=_notes(context, snapshot, canary, stable),
    )
    following = serving.following(
        memory.serving, context.workload, context.shares, context.backends, counted=_counts(snapshot, deltas)
    )
    return Reading(observation, SourceMemory(tracker=tracker, still=still, serving=following))


def _counts(snapshot: Snapshot, deltas: Deltas) -> bool:
    """Whether the reading began an interval."""
    return bool(snapshot.samples) and not deltas.ignored


def _served(context: Context, memory: SourceMemory, snapshot: Snapshot, arm: Arm) -> Arm:
    """The arm, with the time in which there was nobody of it; without what the router counted for nobody."""
    workload, since = context.workload, memory.tracker.at
    if not snapshot.outside or workload is None or since is None:
        return arm
    if not memory.serving.unserved(workload, arm.revision):
        return arm
    share = serving.part(workload, arm.revision, since=since, now=snapshot.wall)
    seconds = round(share * max(0.0, (context.t1 - context.t0).total_seconds()), 3)
    if arm.revision not in memory.serving.exposed:
        return arm.model_copy(update={"unserved": seconds})
    return Arm(
        revision=arm.revision,
        cpu=arm.cpu,
        memory=arm.memory,
        values=arm.values,
        restarts=arm.restarts,
        processes=arm.processes,
        quality=Quality.GAP,
        unserved=max(seconds, 0.001),
    )


def _sums(found: Increase) -> Sums:
    sums: dict[tuple[str, str, str], int | float] = {}
    for text, number in found.values.items():
        revision, kind, name, _ = split(text)
        key = revision, kind, name
        sums[key] = sums.get(key, 0) + number
    return sums


def _arm(
    context: Context,
    snapshot: Snapshot,
    deltas: Deltas,
    sums: Mapping[str, Sums],
    revision: str,
) -> Arm:
    counting = snapshot.traffic.get(revision, ())
    known = {sample.process for sample in snapshot.everything}
    increases = [deltas.increases[name] for name in counting if name in deltas.increases]
    counted = [sums[name] for name in counting if name in sums]
    ok, errors, abandoned = (
        int(sum(found.get((revision, kind, ""), 0) for found in counted))
        for kind in ("ok", "error", "abandoned")
    )
    instances = [instance.name for instance in context.instances(revision)]
    memory = [snapshot.processes.memory[name] for name in instances if name in snapshot.processes.memory]
    waited = _buckets(counted, revision, "waited")
    exits = context.workload.exits if context.workload is not None else ()
    return Arm(
        revision=revision,
        requests=ok + errors,
        errors=errors,
        abandoned=abandoned,
        buckets=_buckets(counted, revision, "le"),
        waited=waited if histogram.total(waited) else (),
        business=_business(context, deltas, sums, snapshot.processes, instances),
        cpu=_cpu(deltas, snapshot, instances),
        memory=max(memory, default=None),
        values=_values(context, snapshot.processes, instances),
        restarts=sum(1 for gone in exits if gone.revision == revision and context.t0 < gone.at <= context.t1),
        processes=len(instances),
        quality=_quality(context, deltas, known, counting, increases),
    )


def _quality(
    context: Context,
    deltas: Deltas,
    known: set[str],
    counting: Sequence[str],
    increases: Sequence[Increase],
) -> Quality:
    answered = [name for name in counting if name in known]
    if not increases:
        return Quality.GAP  # nobody answered, or counting only begins
    if len(answered) < len(counting) or not deltas.holed.isdisjoint(counting):
        return Quality.PARTIAL
    late = context.t1 - context.t0 > PATIENCE * context.interval
    return Quality.MERGED if late or any(found.merged for found in increases) else Quality.OK


def _buckets(counted: Iterable[Sums], revision: str, kind: str) -> histogram.Buckets:
    """Processes may differ in their layout, so each one's `le` counts are taken apart by themselves."""
    together: histogram.Buckets = ()
    for found in counted:
        cumulative = {
            float(edge): int(number)
            for (whose, what, edge), number in found.items()
            if what == kind and whose == revision
        }
        together = histogram.merged(together, histogram.from_cumulative(cumulative))
    return together


def _business(
    context: Context,
    deltas: Deltas,
    sums: Mapping[str, Sums],
    processes: Processes,
    instances: Sequence[str],
) -> dict[str, int | float]:
    """Sums over all processes of the arm. Nothing at all unless every one of them could be counted."""
    complete = bool(instances) and all(
        name in processes.answered and name in deltas.increases and name not in deltas.holed
        for name in instances
    )
    if not complete:
        return {}
    return {
        metric.name: counters.exact(
            sum(
                number
                for name in instances
                for (_, kind, counter), number in sums[name].items()
                if kind == "business" and counter == metric.name
            )
        )
        for metric in context.business
    }


def _values(context: Context, processes: Processes, instances: Sequence[str]) -> dict[str, float]:
    """The worst reading of all processes of the arm. A value that one of them does not tell is left out."""
    found: dict[str, float] = {}
    for value in context.values:
        readings = [processes.values.get(name, {}).get(value.name) for name in instances]
        known = [reading for reading in readings if reading is not None]
        if known and len(known) == len(readings):
            found[value.name] = min(known) if value.minimum is not None else max(known)
    return found


def _cpu(deltas: Deltas, snapshot: Snapshot, instances: Sequence[str]) -> float | None:
    """The largest share of all cores that one process used."""
    shares = []
    for name in instances:
        found = deltas.increases.get(kernel_name(name))
        lasted = snapshot.wall - found.since if found is not None else 0.0
        if found is not None and lasted > 0:
            used = sum(found.values.values()) / 1000
            shares.append(used / lasted / snapshot.cores)
    return min(1.0, max(shares)) if shares else None


def nobody_ready(arm: Arm) -> str:
    """In words, of an arm with `unserved` time."""
    length = f"{arm.unserved:.3g} s"
    return f"no instance of {arm.revision} was ready for {length}; what the router answered is not counted"


def _notes(context: Context, snapshot: Snapshot, canary: Arm, stable: Arm | None) -> tuple[str, ...]:
    absent = tuple(nobody_ready(arm) for arm in (canary, stable) if arm is not None and arm.unserved)
    faults = (*absent, *context.notes, *snapshot.faults, *snapshot.processes.faults)
    begun = canary.quality is Quality.GAP and not faults
    if begun and not snapshot.traffic.get(context.revision):
        return ("no process of it is ready",)
    if begun:
        return ("counting begins with this reading",)
    doubtful = [arm.revision for arm in (canary, stable) if arm is not None and arm.quality is not Quality.OK]
    return faults[:8] if doubtful or faults else ()
