"""The rollback controller's loop: look for a reason, latch the revision on the traffic object, then say why.

It needs the traffic object and nothing else to act (R2). What it knows of a rollout it keeps in
memory, so that it goes on while the store is away; the cause is written down when the store is back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import structlog

from phoenix_orch.health_validator.observation import Verdict
from phoenix_orch.kernel.clock import Clock
from phoenix_orch.kernel.errors import NotFound, PhoenixError, Retryable
from phoenix_orch.rollback_controller.checks import CheckRunner
from phoenix_orch.rollback_controller.triggers import Trigger, evaluate, judged_revision
from phoenix_orch.rollout.status import Cause, Event, Rollout
from phoenix_orch.rollout.store.store import RolloutStore
from phoenix_orch.traffic.router import TrafficRouter
from phoenix_orch.workload.workload import Exit, WorkloadView

TICK = timedelta(milliseconds=200)
"""Longest wait between two looks, in real time."""


class RollbackController:
    """Watches every rollout that has a revision under judgement. `run` until cancelled."""

    def __init__(
        self,
        store: RolloutStore,
        router: TrafficRouter,
        workload: WorkloadView,
        clock: Clock,
        *,
        route_urls: Mapping[str, str],
    ) -> None:
        self._store = store
        self._router = router
        self._workload = workload
        self._clock = clock
        self._route_urls = route_urls
        self._rollouts: dict[str, Rollout] = {}
        self._verdicts: dict[str, Verdict] = {}
        self._runners: dict[tuple[str, str, int], CheckRunner] = {}
        self._targets: dict[str, tuple[str, ...]] = {}
        self._latched: set[tuple[str, str, int]] = set()
        self._untold: list[tuple[str, Cause]] = []
        self._wake = asyncio.Event()
        self._log = structlog.get_logger("phoenix.rollback-controller")
        self._complained = ""

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
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TICK.total_seconds()):
                        await self._wake.wait()
        finally:
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)
            for runner in self._runners.values():
                await runner.stop()

    async def _listen(self) -> None:
        while True:
            try:
                async for _ in self._store.watch(timeout=timedelta(seconds=5)):
                    self.wake()
            except Retryable:
                await asyncio.sleep(TICK.total_seconds())

    async def look(self) -> None:
        """One look at every rollout. No fault of one keeps the next one waiting."""
        await self._refresh()
        for rollout in list(self._rollouts.values()):
            try:
                await self._look_at(rollout)
            except PhoenixError as error:
                self._complain(f"{rollout.name}: {error}")
        await self._stop_runners()
        await self._tell()

    async def _refresh(self) -> None:
        """Read what the store has; while it is away the last known rollouts are good enough."""
        try:
            self._rollouts = {rollout.name: rollout for rollout in await self._store.rollouts()}
            for name in self._rollouts:
                found = await self._store.verdict(name)
                if found is not None:
                    self._verdicts[name] = found[0]
        except Retryable as error:
            self._complain(str(error))

    async def _look_at(self, rollout: Rollout) -> None:
        revision = judged_revision(rollout.status)
        key = (rollout.name, revision or "", rollout.status.release)
        if revision is None or key in self._latched or rollout.status.clear_latch:
            return
        exits = await self._exits(rollout, revision)
        runner = self._runner(rollout, key)
        started = rollout.status.release_started
        trigger = evaluate(
            rollout.spec,
            rollout.status,
            verdict=self._verdicts.get(rollout.name),
            exits=exits,
            checks=runner.states if runner is not None else {},
            now=self._clock.now(),
            wall_now=datetime.now(UTC),
            wall_started=self._clock.wall(started) if started is not None else None,
        )
        if trigger is not None:
            await self._take_back(rollout, revision, trigger)
            self._latched.add(key)

    async def _exits(self, rollout: Rollout, revision: str) -> tuple[Exit, ...]:
        try:
            state = await self._workload.state(rollout.service)
        except (NotFound, Retryable):
            return ()
        urls = tuple(f"http://127.0.0.1:{instance.port}" for instance in state.ready(revision))
        self._targets[rollout.name] = urls
        return state.exits

    def _runner(self, rollout: Rollout, key: tuple[str, str, int]) -> CheckRunner | None:
        if not rollout.spec.checks:
            return None
        if key not in self._runners:
            self._runners[key] = CheckRunner(
                rollout.spec.checks,
                self._clock,
                targets=lambda: self._targets.get(rollout.name, ()),
                route_url=self._route_urls.get(rollout.route, ""),
                changed=self.wake,
            )
        return self._runners[key]

    async def _stop_runners(self) -> None:
        """End the checks of revisions that are no longer under judgement."""
        judged = {
            (name, judged_revision(rollout.status) or "", rollout.status.release)
            for name, rollout in self._rollouts.items()
        }
        for key in [key for key in self._runners if key not in judged or key in self._latched]:
            await self._runners.pop(key).stop()
        self._latched &= judged

    async def _take_back(self, rollout: Rollout, revision: str, trigger: Trigger) -> None:
        """The latch first; words after."""
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
        self._untold.append((rollout.name, cause))

    async def _tell(self) -> None:
        """Write the causes down. Kept until it works."""
        while self._untold:
            name, cause = self._untold[0]
            event = Event(
                at=cause.at,
                reason="Latched",
                message=f"{cause.trigger}: {cause.reason}",
                revision=cause.revision,
                release=self._rollouts[name].status.release if name in self._rollouts else 0,
                actor=cause.actor,
            )
            try:
                await self._store.put_cause(name, cause)
                await self._store.append_events(name, [event])
            except Retryable as error:
                self._complain(str(error))
                return
            except NotFound:
                pass
            self._untold.pop(0)

    def _complain(self, text: str) -> None:
        """Say a fault once, not on every look."""
        if text != self._complained:
            self._complained = text
            self._log.warning(text)
