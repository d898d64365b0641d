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
from collections.abc import Awaitable, Mapping
from datetime import UTC, datetime, timedelta

import structlog

from phoenix_orch.health_validator import history, judge
from phoenix_orch.health_validator.history import History
from phoenix_orch.health_validator.judge import JudgeConfig
from phoenix_orch.health_validator.keeping import Keeping
from phoenix_orch.health_validator.looking import Looking
from phoenix_orch.health_validator.observation import Verdict, VerdictKind
from phoenix_orch.health_validator.resting import at_rest, is_continued
from phoenix_orch.health_validator.seeing import FLOOR, watched
from phoenix_orch.health_validator.sources.source import EvidenceSource
from phoenix_orch.health_validator.watch import PATIENCE, Memory, Watch, within
from phoenix_orch.kernel.clock import Clock
from phoenix_orch.kernel.errors import NotFound, PhoenixError, Retryable
from phoenix_orch.observability import metrics, tracing
from phoenix_orch.observability.rollouts import VerdictFacts
from phoenix_orch.rollout.status import RESTING, Rollout, State
from phoenix_orch.rollout.store.store import RolloutStore
from phoenix_orch.traffic.router import TrafficRouter
from phoenix_orch.workload.workload import WorkloadView

LOOK = timedelta(seconds=1)
"""Real time after which rollouts are looked for again without a hint."""

RESTING_MOST = 200
"""Rollouts at rest that are observed for the sake of their next release: those that were released last. For
another one the history is what earlier releases have left."""

_JUDGED = frozenset({State.PROGRESSING, State.PAUSED, State.PROMOTING, State.BAKING})
_WATCHED = _JUDGED | {State.STARTING} | RESTING

_log = structlog.get_logger(__name__)


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
        self._clock = clock
        self._looking = Looking(router, workload, sources, clock)
        self._keeping = Keeping(store, clock)
        self._every_verdict = every_verdict
        self._watches: dict[str, Watch] = {}
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
        watch = self._watches.setdefault(rollout.name, Watch(rollout))
        watch.rollout = rollout
        try:
            current = await self._current(watch)
            if current is None or not self._is_watched(current):
                await self._keeping.publish(watch)
                return False
            if await self._keeping.load(watch):
                await self._observe(watch)
            await self._keeping.publish(watch)
        except Exception as error:  # noqa: BLE001 - a defect in one must not end the validator of all
            watch.trouble("defect", repr(error), exc_info=True)
        else:
            watch.mended("defect")
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
            found = await within(PATIENCE, self._store.rollouts())
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

    async def _current(self, watch: Watch) -> Rollout | None:
        """The rollout as stored; as known last while the store is away; None when it is gone."""
        try:
            watch.rollout = await within(PATIENCE, self._store.get(watch.rollout.name))
        except NotFound:
            return None
        except Retryable as error:
            watch.trouble("store", error.message)
        else:
            watch.mended("store")
        return watch.rollout

    async def _observe(self, watch: Watch) -> None:
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
        context = await self._looking.context(watch, revision, config.interval, memory.at)
        reading = await self._looking.read(watch, context, memory.source)
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

    def _config(self, watch: Watch) -> JudgeConfig:
        spec = watch.rollout.spec
        if watch.config is None or watch.config[0] != spec:
            watch.config = (spec, JudgeConfig.of(spec, interval=self._interval(watch.rollout)))
        return watch.config[1]

    async def _memory(self, watch: Watch, config: JudgeConfig, revision: str) -> Memory:
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

    def _as_shown(self, watch: Watch, config: JudgeConfig, memory: Memory) -> Memory:
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

    async def _history(self, watch: Watch, config: JudgeConfig) -> History | None:
        """What was observed of stable before this release; nothing while the log cannot be read."""
        rollout = watch.rollout
        if config.gate != "statistical" or rollout.status.state in RESTING:
            return None
        number = history.wanted(config.statistical, config.interval)
        try:
            past = await within(PATIENCE, self._store.observations(rollout.name, limit=number))
        except PhoenixError as error:
            watch.trouble("history", error.message)
            return None
        watch.mended("history")
        return history.learn(past, config.statistical, stable=rollout.status.stable)

    # -- telling -----------------------------------------------------------------------------------

    def _count(self, watch: Watch, verdict: Verdict, seconds: float) -> None:
        kind = verdict.kind.value
        metrics.VERDICTS.labels(kind).inc()
        metrics.OBSERVATION_DURATION.observe(seconds, exemplar=tracing.exemplar())
        told = VerdictFacts(watch.rollout.name, kind, verdict.category.value, verdict.at.timestamp())
        metrics.ROLLOUTS.judged(told)

    def _tell(self, watch: Watch, verdict: Verdict) -> None:
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


def _last_released(rollout: Rollout) -> tuple[datetime, str]:
    return rollout.status.release_started or datetime.min.replace(tzinfo=UTC), rollout.name


async def _at_most(seconds: float, call: Awaitable[object]) -> None:
    try:
        async with asyncio.timeout(seconds):
            await call
    except TimeoutError:
        pass
