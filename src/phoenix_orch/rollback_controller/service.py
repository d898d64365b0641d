"""The rollback controller's loop: look for a reason, latch the revision on the traffic object, then say why.

It needs the traffic object and nothing else to act (R2). What it knows of a rollout it keeps in
memory, so that it goes on while the store is away; the cause is written down when the store is back.
Whatever may take long (the store, one rollout's files, a check) runs beside the look, never in its way.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import structlog

from phoenix_orch.health_validator.observation import Verdict
from phoenix_orch.kernel.clock import Clock
from phoenix_orch.kernel.errors import NotFound, PhoenixError
from phoenix_orch.observability import metrics, tracing
from phoenix_orch.rollback_controller.checks import CheckRunner, Route, Surroundings, surroundings
from phoenix_orch.rollback_controller.triggers import CheckState, Trigger, evaluate, judged_revision
from phoenix_orch.rollout.spec import Check
from phoenix_orch.rollout.status import Cause, Event, Rollout
from phoenix_orch.rollout.store.store import RolloutStore
from phoenix_orch.rollout.templates import Templates
from phoenix_orch.runtime.faults import Faults
from phoenix_orch.traffic.router import TrafficRouter
from phoenix_orch.workload.workload import WorkloadState, WorkloadView

TICK = timedelta(milliseconds=200)
"""Longest wait between two looks, in real time."""
SHARE = timedelta(milliseconds=10)
"""A look for each rollout under judgement takes about so long: the more there are, the rarer looks are."""
PATIENCE = 0.25
"""Real seconds that a look waits for what it started; what takes longer goes on beside the next looks."""

Key = tuple[str, str, int]
"""Rollout, revision under judgement, release."""
Targets = Callable[[Rollout, str, WorkloadState], Sequence[str]]
"""Addresses that stand for `{canary}` in checks of a revision; none while there is nobody to check."""


def on_this_machine(rollout: Rollout, revision: str, workload: WorkloadState) -> tuple[str, ...]:  # noqa: ARG001
    """Every instance of the revision that is ready."""
    return tuple(f"http://127.0.0.1:{instance.port}" for instance in workload.ready(revision))


class RollbackController:
    """Watches every rollout that has a revision under judgement. `run` until cancelled."""

    def __init__(
        self,
        store: RolloutStore,
        router: TrafficRouter,
        workload: WorkloadView,
        clock: Clock,
        *,
        route: Callable[[str], Route],
        targets: Targets = on_this_machine,
    ) -> None:
        """`route`: how a route is called, for the checks. `targets`: what they call `{canary}`."""
        self._store = store
        self._router = router
        self._workload = workload
        self._clock = clock
        self._route = route
        self._targets_of = targets
        self._found: list[Rollout] = []
        """As the store listed them last."""
        self._rollouts: dict[str, Rollout] = {}
        """Those that have a revision under judgement."""
        self._verdicts: dict[str, Verdict] = {}
        self._runners: dict[Key, tuple[tuple[Check, ...], CheckRunner]] = {}
        self._targets: dict[str, tuple[str, ...]] = {}
        self._latched: set[Key] = set()
        self._untold: dict[str, list[tuple[Rollout, Cause]]] = {}
        """By name of the rollout, the oldest first."""
        self._beside: dict[str, asyncio.Task[None]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._templates = Templates(store)
        self._wake = asyncio.Event()
        self._log = structlog.get_logger("phoenix.rollback-controller")
        self._faults = Faults(self._log)

    def wake(self) -> None:
        """Look now: something changed."""
        self._wake.set()

    async def run(self) -> None:
        """Look again and again; at every change of the store, and at least every `TICK`."""
        listener = asyncio.create_task(self._listen(), name="rollback-controller listens")
        try:
            while True:
                self._wake.clear()
                await self.look()
                share = len(self._rollouts) * SHARE
                await asyncio.sleep(share.total_seconds() / 2)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(TICK, share).total_seconds()):
                        await self._wake.wait()
        finally:
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)
            await self.stop()

    async def stop(self) -> None:
        """End the checks and whatever else runs beside the looks."""
        for task in self._beside.values():
            task.cancel()
        await asyncio.gather(*self._beside.values(), return_exceptions=True)
        for key in list(self._runners):
            self._end_checks(key)
        await asyncio.gather(*self._ending, return_exceptions=True)

    async def _listen(self) -> None:
        while True:
            try:
                async for _ in self._store.watch(timeout=timedelta(seconds=5)):
                    self.wake()
            except PhoenixError:  # told where the rollouts are read
                pass
            await asyncio.sleep(TICK.total_seconds())

    async def look(self) -> None:
        """One look at every rollout. Nothing that fails or hangs keeps the next one waiting."""
        await self._run_beside({"store": self._refresh})
        await self._run_beside({"templates": self._learn})
        await self._run_beside({f"look at {one.name}": self._looking(one) for one in self._rollouts.values()})
        self._forget_the_past()
        await self._run_beside({f"cause of {name}": partial(self._tell, name) for name in self._untold})

    async def _run_beside(self, calls: Mapping[str, Callable[[], Coroutine[Any, Any, None]]]) -> None:
        """Start what does not run yet and wait a little for it."""
        self._beside = {name: task for name, task in self._beside.items() if not task.done()}
        started = {
            name: asyncio.create_task(call()) for name, call in calls.items() if name not in self._beside
        }
        self._beside |= started
        if started:
            await asyncio.wait(started.values(), timeout=PATIENCE)

    async def _refresh(self) -> None:
        """Read what the store has; while it is away the last known rollouts are good enough."""
        try:
            found = await self._store.rollouts()
            if found is not self._found:  # of the very same list everything is known
                judged = {one.name: one for one in found if judged_revision(one.status) is not None}
                self._end_judgement(self._rollouts.keys() - judged.keys(), found)
                self._found, self._rollouts = found, judged
                self._verdicts = {name: one for name, one in self._verdicts.items() if name in judged}
            for name in self._rollouts:
                verdict = await self._store.judged(name)
                if verdict is not None:
                    self._verdicts[name] = verdict
        except PhoenixError as error:
            self._faults.tell("store", error=error)
        except Exception as error:  # noqa: BLE001 - what cannot be read must not end the watch
            self._faults.tell("store", error=error, unforeseen=True)
        else:
            self._faults.mended("store")

    def _end_judgement(self, names: Collection[str], found: Sequence[Rollout]) -> None:
        """Of these rollouts nothing is under judgement any more."""
        there = {one.name for one in found} if names else set()
        for name in names:
            if name in there:
                self._faults.mended(name, "look")
            else:
                self._faults.forget(name)
            self._targets.pop(name, None)
            self._templates.forget(name)

    def _looking(self, rollout: Rollout) -> Callable[[], Coroutine[Any, Any, None]]:
        async def look() -> None:
            try:
                await self._look_at(rollout)
            except PhoenixError as error:
                self._faults.tell(rollout.name, "look", error=error)
            except Exception as error:  # noqa: BLE001 - a defect in one must not end the watch over all
                self._faults.tell(rollout.name, "look", error=error, unforeseen=True)
            else:
                self._faults.mended(rollout.name, "look")

        return look

    async def _look_at(self, rollout: Rollout) -> None:
        revision = judged_revision(rollout.status)
        key = (rollout.name, revision or "", rollout.status.release)
        if revision is None or key in self._latched or rollout.status.clear_latch:
            return
        workload = await self._instances(rollout, revision)
        started = rollout.status.release_started
        trigger = evaluate(
            rollout.spec,
            rollout.status,
            verdict=self._verdicts.get(rollout.name),
            workload=workload,
            checks=self._checks(rollout, key),
            now=self._clock.now(),
            wall_now=datetime.now(UTC),
            wall_started=self._clock.wall(started) if started is not None else None,
        )
        if trigger is not None:
            await self._take_back(rollout, revision, trigger)
            self._latched.add(key)

    async def _instances(self, rollout: Rollout, revision: str) -> WorkloadState | None:
        try:
            state = await self._workload.state(rollout.service)
        except PhoenixError as error:
            if not isinstance(error, NotFound):
                self._faults.tell(rollout.name, "workload", error=error)
            return None
        self._faults.mended(rollout.name, "workload")
        self._targets[rollout.name] = tuple(self._targets_of(rollout, revision, state))
        return state

    # -- checks ------------------------------------------------------------------------------------

    def _checks(self, rollout: Rollout, key: Key) -> Mapping[str, CheckState]:
        """What the checks found so far; they are begun anew when others are wanted."""
        wanted = rollout.spec.checks
        running = self._runners.get(key)
        if running is not None and running[0] == wanted:
            return running[1].states
        if running is not None:
            self._end_checks(key)
        if not wanted:
            return {}
        runner = CheckRunner(
            wanted,
            self._clock,
            targets=lambda: self._targets.get(rollout.name, ()),
            route=lambda: self._route(rollout.route),
            changed=self.wake,
            surroundings=lambda: self._surroundings(rollout, key[1]),
        )
        self._runners[key] = (wanted, runner)
        return runner.states

    def _surroundings(self, rollout: Rollout, revision: str) -> Surroundings:
        template = self._templates.known(rollout.name, revision)
        return surroundings(rollout, revision, template)

    async def _learn(self) -> None:
        """Read the templates of those revisions that programs check: what is secret in their output."""
        for rollout in list(self._rollouts.values()):
            revision = judged_revision(rollout.status)
            if revision is None or not any(check.exec is not None for check in rollout.spec.checks):
                continue
            try:
                await self._templates.get(rollout, revision)
            except PhoenixError as error:
                self._faults.tell(rollout.name, "template", error=error)
            except Exception as error:  # noqa: BLE001 - what cannot be read must not end the watch
                self._faults.tell(rollout.name, "template", error=error, unforeseen=True)
            else:
                self._faults.mended(rollout.name, "template")

    def _end_checks(self, key: Key) -> None:
        _, runner = self._runners.pop(key)
        task = asyncio.create_task(runner.stop(), name=f"end checks of {key[0]}")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _forget_the_past(self) -> None:
        """End the checks of revisions that are no longer under judgement, forget rollouts that are gone."""
        judged = {
            (name, judged_revision(rollout.status) or "", rollout.status.release)
            for name, rollout in self._rollouts.items()
        }
        for key in [key for key in self._runners if key not in judged or key in self._latched]:
            self._end_checks(key)
        self._latched &= judged
        for name, rollout in self._rollouts.items():
            self._templates.keep(name, [judged_revision(rollout.status)])

    # -- acting ------------------------------------------------------------------------------------

    async def _take_back(self, rollout: Rollout, revision: str, trigger: Trigger) -> None:
        """The latch first; words after."""
        with (
            tracing.span("rollback", phoenix_rollout=rollout.name, phoenix_trigger=trigger.name),
            metrics.aborting("rollback-controller"),
        ):
            await self._router.abort(rollout.route, revision)
        self._log.warning(trigger.reason, reason="Latched", rollout=rollout.name, revision=revision)
        status = rollout.status
        cause = Cause(
            revision=revision,
            trigger=trigger.name,
            reason=trigger.reason,
            at=self._clock.now(),
            actor="rollback-controller",
            step=status.step,
            weight=100 if status.canary is None else status.weight,
            evidence=trigger.evidence,
        )
        self._untold.setdefault(rollout.name, []).append((rollout, cause))

    async def _tell(self, name: str) -> None:
        """Write the causes of one rollout down. Kept until it works."""
        untold = self._untold[name]
        while untold:
            try:
                await self._write_down(*untold[0])
            except NotFound:
                pass
            except PhoenixError as error:
                self._faults.tell(name, "cause", error=error)
                return
            except Exception as error:  # noqa: BLE001 - what cannot be written is tried again
                self._faults.tell(name, "cause", error=error, unforeseen=True)
                return
            self._faults.mended(name, "cause")
            untold.pop(0)
        del self._untold[name]

    async def _write_down(self, rollout: Rollout, cause: Cause) -> None:
        event = Event(
            at=cause.at,
            reason="Latched",
            message=f"{cause.trigger}: {cause.reason}",
            revision=cause.revision,
            release=rollout.status.release,
            actor=cause.actor,
        )
        await self._store.put_cause(rollout.name, cause)
        await self._store.append_events(rollout.name, [event])
