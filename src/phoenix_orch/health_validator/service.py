"""The health validator: observe every rollout, judge what is released, publish the verdict with its time.
Between releases stable is observed and logged, since the next release is judged by that past, too.

Each rollout has a task of its own, so that one that is slow or broken delays no other. What a rollout's
next observation builds on (counters read, the judge's state) is published together with the verdict in
one write: after a crash at any moment no request is counted twice and none is forgotten. While the
store is away, judging goes on in memory and everything is published when it is back; what others act on
is shown to them meanwhile where records can be written without the log (ADR 0033).
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import deque
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeVar

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from phoenix_orch.health_validator import history, judge
from phoenix_orch.health_validator.history import History
from phoenix_orch.health_validator.judge import JudgeConfig, JudgeState
from phoenix_orch.health_validator.observation import Observation, Quality, Verdict, VerdictKind
from phoenix_orch.health_validator.resting import at_rest, is_continued
from phoenix_orch.health_validator.seeing import FLOOR, gap, watched, weight
from phoenix_orch.health_validator.sources.source import Context, EvidenceSource, Reading, SourceMemory
from phoenix_orch.kernel.clock import Clock
from phoenix_orch.kernel.errors import Conflict, NotFound, PhoenixError, Retryable
from phoenix_orch.observability import metrics, tracing
from phoenix_orch.observability.rollouts import VerdictFacts
from phoenix_orch.rollout.spec import RolloutSpec
from phoenix_orch.rollout.status import RESTING, Rollout, State
from phoenix_orch.rollout.store.store import RolloutStore
from phoenix_orch.traffic.router import TrafficRouter, TrafficSeen
from phoenix_orch.workload.workload import WorkloadState, WorkloadView

PATIENCE = 5.0
"""Real seconds for one call to the store, the router or the workload."""

SOURCE_PATIENCE = 10.0
"""Real seconds for one observation. Sources have shorter time-outs of their own."""

LOOK = timedelta(seconds=1)
"""Real time after which rollouts are looked for again without a hint."""

START = timedelta(seconds=5)
"""Real time that a source has to say something first, before its silence is told."""

RESTING_MOST = 200
"""Rollouts at rest that are observed for the sake of their next release: those that were released last. For
another one the history is what earlier releases have left."""

WITHOUT = timedelta(seconds=30)
"""Real time for which the judge waits for what it knew of a release, before it begins anew without."""

UNLOGGED = 1000
"""Observations kept while the store is away; the oldest go first."""

_JUDGED = frozenset({State.PROGRESSING, State.PAUSED, State.PROMOTING, State.BAKING})
_WATCHED = _JUDGED | {State.STARTING} | RESTING

_log = structlog.get_logger(__name__)
T = TypeVar("T")


class Memory(BaseModel):
    """What is stored beside a verdict: all that the next observation of this release needs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    release: int
    at: datetime | None = None
    """End of the last observation."""
    source: SourceMemory = SourceMemory()
    judge: JudgeState


@dataclass
class _Watch:
    """One rollout while it is watched."""

    rollout: Rollout
    config: tuple[RolloutSpec, JudgeConfig] | None = None
    """Made for this spec."""
    memory: Memory | None = None
    loaded: bool = False
    verdict: Verdict | None = None
    begun: datetime | None = None
    """When it was looked at first."""
    answered: bool = False
    """The source has said something since."""
    unshown: Verdict | None = None
    unpublished: tuple[Verdict, str] | None = None
    clock_back: bool = False
    """What was published last is from a future that the clock no longer knows."""
    convicted: Verdict | None = None
    """A rollback that was shown and of which the judge's state that could be read says nothing."""
    unlogged: deque[Observation] = field(default_factory=lambda: deque(maxlen=UNLOGGED))
    faults: dict[str, str] = field(default_factory=dict)
    """What is wrong now, by kind; each is told once."""


class HealthValidator:
    """Runs until cancelled. One at a time for each store: two would take turns at the same verdict."""

    def __init__(
        self,
        store: RolloutStore,
        router: TrafficRouter,
        workload: WorkloadView,
        sources: Mapping[str, EvidenceSource],
        clock: Clock,
        *,
        every_verdict: bool = False,
    ) -> None:
        """`sources` by the word in `evidence.source`: router, metrics. `every_verdict`: each is logged, not
        only those that say something else than the one before."""
        self._store = store
        self._router = router
        self._workload = workload
        self._sources = sources
        self._clock = clock
        self._every_verdict = every_verdict
        self._watches: dict[str, _Watch] = {}
        self._left_alone: frozenset[str] = frozenset()
        """Those at rest that are too many to be observed."""
        self._listed: list[Rollout] = []
        """As the store listed them last."""
        self._to_watch: list[Rollout] = []
        self._wake = asyncio.Event()
        self._lost = False

    async def run(self) -> None:
        """Watch every rollout that needs it, as they come and go."""
        tasks: dict[str, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            while True:
                self._wake.clear()
                for rollout in self._chosen(await self._found()):
                    task = tasks.get(rollout.name)
                    if task is None or task.done():
                        tasks[rollout.name] = group.create_task(self._watch(rollout))
                tasks = {name: task for name, task in tasks.items() if not task.done()}
                await _at_most(LOOK.total_seconds(), self._wake.wait())

    async def observe_once(self, rollout: Rollout) -> bool:
        """One observation of one rollout. False when it needs no watching any more."""
        watch = self._watches.setdefault(rollout.name, _Watch(rollout))
        watch.rollout = rollout
        try:
            current = await self._current(watch)
            if current is None or not self._is_watched(current):
                await self._publish(watch)
                return False
            if await self._load(watch):
                await self._observe(watch)
            await self._publish(watch)
        except Exception as error:  # noqa: BLE001 - a defect in one must not end the validator of all
            self._trouble(watch, "defect", repr(error), exc_info=True)
        else:
            self._mended(watch, "defect")
        return True

    # -- finding rollouts --------------------------------------------------------------------------

    async def _listen(self) -> None:
        """Turn the store's hints into a wake-up; who is watched already looks for himself."""
        while True:
            try:
                async for name in self._store.watch(timeout=LOOK):
                    if name not in self._watches:
                        self._wake.set()
            except PhoenixError:  # told where the rollouts are read
                pass
            await asyncio.sleep(LOOK.total_seconds())

    async def _found(self) -> list[Rollout]:
        try:
            found = await _within(PATIENCE, self._store.rollouts())
        except PhoenixError as error:
            if not self._lost:
                _log.warning("rollouts cannot be read", reason=error.message)
            self._lost = True
            return []
        if self._lost:
            _log.info("rollouts can be read again")
        self._lost = False
        return found

    def _chosen(self, found: list[Rollout]) -> list[Rollout]:
        """Those to watch: all that are released, and of those at rest not too many. Of the very same list
        they are the same."""
        if found is self._listed:
            return self._to_watch
        resting = [one for one in found if one.status.state in RESTING]
        chosen = heapq.nlargest(RESTING_MOST, resting, key=_last_released)
        self._left_alone = frozenset({one.name for one in resting} - {one.name for one in chosen})
        self._listed, self._to_watch = found, [one for one in found if self._is_watched(one)]
        return self._to_watch

    def _is_watched(self, rollout: Rollout) -> bool:
        state = rollout.status.state
        return state in _WATCHED and not (state in RESTING and rollout.name in self._left_alone)

    async def _watch(self, rollout: Rollout) -> None:
        due = self._clock.now()
        try:
            while await self.observe_once(rollout):
                rollout = self._watches[rollout.name].rollout
                due = max(due + self._interval(rollout), self._clock.now())
                await self._clock.sleep(due - self._clock.now())
        finally:
            self._watches.pop(rollout.name, None)
            metrics.ROLLOUTS.forget_verdict(rollout.name)

    def _interval(self, rollout: Rollout) -> timedelta:
        """The rollout's own interval, or what the floor of real time is on its clock."""
        wanted = rollout.spec.evidence.interval
        real = self._clock.real(wanted)
        return wanted if real <= timedelta(0) else max(wanted, wanted * (FLOOR / real))

    # -- one observation ---------------------------------------------------------------------------

    async def _current(self, watch: _Watch) -> Rollout | None:
        """The rollout as stored; as known last while the store is away; None when it is gone."""
        try:
            watch.rollout = await _within(PATIENCE, self._store.get(watch.rollout.name))
        except NotFound:
            return None
        except Retryable as error:
            self._trouble(watch, "store", error.message)
        else:
            self._mended(watch, "store")
        return watch.rollout

    async def _load(self, watch: _Watch) -> bool:
        """Go on from what was published last. False while that cannot be read."""
        if watch.loaded:
            return True
        try:
            kept = await _within(PATIENCE, self._store.verdict(watch.rollout.name))
            shown = await _within(PATIENCE, self._store.judged(watch.rollout.name))
        except Retryable as error:
            self._trouble(watch, "log", error.message)
            return await self._begin_without(watch)
        watch.loaded = True
        self._seen_last(watch, shown, kept[0] if kept is not None else None)
        if kept is not None:
            try:
                watch.memory = Memory.model_validate_json(kept[1])
            except ValidationError:
                _log.warning(
                    "the judge begins anew: what was stored cannot be read", rollout=watch.rollout.name
                )
        return True

    async def _begin_without(self, watch: _Watch) -> bool:
        """Where the rollout can be read and the judge's state cannot, for long, judge from here on: with no
        evidence, which is never a pass (R1). False where it is too early for that."""
        watch.begun = watch.begun or self._clock.now()
        if "store" in watch.faults or self._clock.real(self._clock.now() - watch.begun) < WITHOUT:
            return False
        try:
            shown = await _within(PATIENCE, self._store.judged(watch.rollout.name))
        except Retryable:
            return False
        _log.warning("the judge begins anew: what it knew cannot be read", rollout=watch.rollout.name)
        watch.loaded, watch.memory = True, None
        self._seen_last(watch, shown, None)
        return True

    def _seen_last(self, watch: _Watch, shown: Verdict | None, kept: Verdict | None) -> None:
        """`shown`: the last verdict; `kept`: the one that the judge's state goes with."""
        watch.verdict = shown
        watch.clock_back = shown is not None and shown.at > self._clock.now()
        watch.convicted = shown if shown != kept else None

    async def _observe(self, watch: _Watch) -> None:
        rollout = watch.rollout
        revision = watched(rollout.status)
        if revision is None:
            return
        config = self._config(watch)
        memory = await self._memory(watch, config, revision)
        resting = rollout.status.state in RESTING
        if resting and memory.at and not is_continued(memory.at, self._clock.now(), config.interval):
            memory = Memory(release=memory.release, judge=memory.judge)
        first = memory.at is None
        begun, begun_at = time.perf_counter(), time.time_ns()
        context = await self._context(watch, revision, config.interval, memory.at)
        reading = await self._read(watch, context, memory.source)
        memory = memory.model_copy(update={"at": context.t1, "source": reading.memory})
        if first or rollout.status.state not in _JUDGED:
            watch.memory = memory  # the first reading is where counting begins
            if resting and not first:
                watch.unlogged.append(at_rest(reading.observation))
            return
        with tracing.span("verdict", started=begun_at, phoenix_rollout=rollout.name) as span:
            state, verdict = judge.step(config, memory.judge, reading.observation)
            span.set("phoenix.verdict", verdict.kind.value)
            span.set("phoenix.reason", verdict.category.value)
            self._count(watch, verdict, time.perf_counter() - begun)
            self._tell(watch, verdict)
        watch.memory = memory.model_copy(update={"judge": state})
        watch.verdict = verdict
        watch.unlogged.append(reading.observation)
        watch.unshown = verdict
        watch.unpublished = (verdict, watch.memory.model_dump_json())

    def _config(self, watch: _Watch) -> JudgeConfig:
        spec = watch.rollout.spec
        if watch.config is None or watch.config[0] != spec:
            watch.config = (spec, JudgeConfig.of(spec, interval=self._interval(watch.rollout)))
        return watch.config[1]

    async def _memory(self, watch: _Watch, config: JudgeConfig, revision: str) -> Memory:
        """What is remembered of this release; an empty one for another."""
        kept, release = watch.memory, watch.rollout.status.release
        if kept is None or (kept.release, kept.judge.revision) != (release, revision):
            past = await self._history(watch, config)
            begun = judge.init(config, revision, release, history=past)
            return self._as_shown(watch, config, Memory(release=release, judge=begun))
        if kept.at is not None and kept.at > self._clock.now():
            _log.warning("the judge begins anew: the clock was set back", rollout=watch.rollout.name)
            fresh = judge.init(config, revision, release, history=kept.judge.history)
            anew = fresh.model_copy(update={"rollback": kept.judge.rollback})
            watch.clock_back = True
            return kept.model_copy(update={"at": self._clock.now(), "judge": anew})
        return self._as_shown(watch, config, kept)

    def _as_shown(self, watch: _Watch, config: JudgeConfig, memory: Memory) -> Memory:
        """With the rollback that others were shown: a release is convicted once."""
        shown, watch.convicted = watch.convicted, None
        if shown is None or shown.kind is not VerdictKind.ROLLBACK or memory.judge.rollback is not None:
            return memory
        began = watch.rollout.status.release_started
        if shown.revision != memory.judge.revision or began is None or shown.at < began:
            return memory
        if not (config.keep_rollback or watch.rollout.status.state is State.BAKING):
            return memory
        return memory.model_copy(update={"judge": memory.judge.model_copy(update={"rollback": shown})})

    async def _history(self, watch: _Watch, config: JudgeConfig) -> History | None:
        """What was observed of stable before this release; nothing while the log cannot be read."""
        rollout = watch.rollout
        if config.gate != "statistical" or rollout.status.state in RESTING:
            return None
        number = history.wanted(config.statistical, config.interval)
        try:
            past = await _within(PATIENCE, self._store.observations(rollout.name, limit=number))
        except PhoenixError as error:
            self._trouble(watch, "history", error.message)
            return None
        self._mended(watch, "history")
        return history.learn(past, config.statistical, stable=rollout.status.stable)

    async def _context(
        self, watch: _Watch, revision: str, interval: timedelta, since: datetime | None
    ) -> Context:
        rollout, status = watch.rollout, watch.rollout.status
        seen, workload = await asyncio.gather(self._seen(watch), self._workload_state(watch))
        now = self._clock.now()
        return Context(
            rollout=rollout.name,
            route=rollout.route,
            revision=revision,
            stable=status.stable if revision != status.stable else None,
            step=status.step,
            weight=weight(seen, revision),
            t0=since if since is not None else now,
            t1=now,
            interval=interval,
            workload=workload,
            business=rollout.spec.evidence.business,
            values=rollout.spec.evidence.values,
            notes=("the router does not say what it sends",) if seen.weight is None else (),
            backends=seen.backends or frozenset(),
        )

    async def _seen(self, watch: _Watch) -> TrafficSeen:
        try:
            seen = await _within(PATIENCE, self._router.observe(watch.rollout.route))
        except PhoenixError as error:
            self._trouble(watch, "router", error.message)
            return TrafficSeen(weight=None)
        self._mended(watch, "router")
        return seen

    async def _workload_state(self, watch: _Watch) -> WorkloadState | None:
        try:
            state = await _within(PATIENCE, self._workload.state(watch.rollout.service))
        except PhoenixError as error:
            self._trouble(watch, "workload", error.message)
            return None
        self._mended(watch, "workload")
        return state

    async def _read(self, watch: _Watch, context: Context, memory: SourceMemory) -> Reading:
        """Ask the source; whatever it does wrong is a gap."""
        word = watch.rollout.spec.evidence.source
        try:
            reading = await _within(SOURCE_PATIENCE, self._sources[word].observe(context, memory))
        except Exception as error:  # noqa: BLE001 - sources are other people's code, too
            reason = error.message if isinstance(error, PhoenixError) else repr(error)
            self._trouble(watch, "source", reason, exc_info=not isinstance(error, PhoenixError))
            return gap(context, memory, reason)
        if reading.observation.canary.quality is not Quality.GAP:
            watch.answered = True
            self._mended(watch, "source")
        elif not self._starts(watch):
            self._trouble(watch, "source", "; ".join(reading.observation.notes))
        return reading

    def _starts(self, watch: _Watch) -> bool:
        """A router that was started a moment ago says nothing yet, and that hinders nobody."""
        watch.begun = watch.begun or self._clock.now()
        return not watch.answered and self._clock.real(self._clock.now() - watch.begun) < START

    async def _publish(self, watch: _Watch) -> None:
        """First what others act on, which no log delays. Then the log, the observation before the verdict:
        one that overlaps the next one was logged and never judged."""
        name, back = watch.rollout.name, watch.clock_back
        try:
            await self._show(watch)
            while watch.unlogged:
                await _within(PATIENCE, self._store.append_observation(name, watch.unlogged[0]))
                watch.unlogged.popleft()
                self._mended(watch, "log")
            if watch.unpublished is not None:
                put = self._store.put_verdict(name, *watch.unpublished, clock_back=back)
                await _within(PATIENCE, put)
                watch.unpublished, watch.clock_back = None, False
                self._mended(watch, "log")
        except NotFound:
            self._drop(watch)
        except Conflict as error:
            _log.warning("going on from what another validator published", rollout=name, by=error.message)
            self._drop(watch)
            watch.loaded, watch.memory = False, None
        except Retryable as error:
            self._trouble(watch, "log", error.message)

    async def _show(self, watch: _Watch) -> None:
        """What could not be shown is followed by the next one. Raises NotFound, Conflict."""
        if watch.unshown is None:
            return
        shown = self._store.show_verdict(watch.rollout.name, watch.unshown, clock_back=watch.clock_back)
        try:
            await _within(PATIENCE, shown)
        except (NotFound, Conflict):
            raise
        except PhoenixError as error:
            self._trouble(watch, "verdict", error.message)
            return
        self._mended(watch, "verdict")
        watch.unshown = None

    def _drop(self, watch: _Watch) -> None:
        watch.unlogged.clear()
        watch.unshown = watch.unpublished = None

    # -- telling -----------------------------------------------------------------------------------

    def _count(self, watch: _Watch, verdict: Verdict, seconds: float) -> None:
        kind = verdict.kind.value
        metrics.VERDICTS.labels(kind).inc()
        metrics.OBSERVATION_DURATION.observe(seconds, exemplar=tracing.exemplar())
        told = VerdictFacts(watch.rollout.name, kind, verdict.category.value, verdict.at.timestamp())
        metrics.ROLLOUTS.judged(told)

    def _tell(self, watch: _Watch, verdict: Verdict) -> None:
        before = watch.verdict
        if (
            not self._every_verdict
            and before is not None
            and (before.kind, before.revision, before.step)
            == (
                verdict.kind,
                verdict.revision,
                verdict.step,
            )
        ):
            return
        _log.info(
            "verdict",
            rollout=watch.rollout.name,
            revision=verdict.revision,
            step=verdict.step,
            kind=verdict.kind.value,
            reason=verdict.reason,
        )

    def _trouble(self, watch: _Watch, kind: str, reason: str, *, exc_info: bool = False) -> None:
        if kind not in watch.faults:
            _log.warning(
                "observing is hindered",
                rollout=watch.rollout.name,
                by=kind,
                reason=reason,
                exc_info=exc_info,
            )
        watch.faults[kind] = reason

    def _mended(self, watch: _Watch, kind: str) -> None:
        if watch.faults.pop(kind, None) is not None:
            _log.info("observing goes on", rollout=watch.rollout.name, after=kind)


def _last_released(rollout: Rollout) -> tuple[datetime, str]:
    return rollout.status.release_started or datetime.min.replace(tzinfo=UTC), rollout.name


async def _within(seconds: float, call: Awaitable[T]) -> T:
    """The call's answer, or Retryable after so many real seconds."""
    try:
        async with asyncio.timeout(seconds):
            return await call
    except TimeoutError:
        raise Retryable(f"no answer within {seconds:g} s") from None


async def _at_most(seconds: float, call: Awaitable[object]) -> None:
    try:
        async with asyncio.timeout(seconds):
            await call
    except TimeoutError:
        pass
