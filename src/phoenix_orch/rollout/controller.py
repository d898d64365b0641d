"""The rollout controller: the shell around `machine.decide`.

One pass: observe, decide, abort if that is due, record, make the world so. A pass may be cut off
anywhere; the next one starts from what is stored and what is there (R7). While the store is away
passes go on from the last known rollout, so that instances keep being routed and an abort keeps
being tried (R2); what was decided meanwhile is stored in order when the store is back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from datetime import timedelta

import structlog

from phoenix_orch.kernel.clock import Clock
from phoenix_orch.kernel.errors import Conflict, Latched, PhoenixError
from phoenix_orch.observability import metrics, tracing
from phoenix_orch.rollout.aborts_by_hand import AbortNotes, AbortsByHand
from phoenix_orch.rollout.attempts import Attempts
from phoenix_orch.rollout.drift import Drift
from phoenix_orch.rollout.facts import Decision, TrafficWanted
from phoenix_orch.rollout.gate import Gate, open_gate
from phoenix_orch.rollout.hands import Hands
from phoenix_orch.rollout.latches import LATCHES_KEPT, Latches
from phoenix_orch.rollout.machine import decide
from phoenix_orch.rollout.measuring import acts, facts_of
from phoenix_orch.rollout.observing import Observing, View
from phoenix_orch.rollout.passes import BREATH, RESTING_TICK, TICK, Passes
from phoenix_orch.rollout.records import Records
from phoenix_orch.rollout.status import RESTING, Event, Release, Rollout, State
from phoenix_orch.rollout.store.store import RolloutStore
from phoenix_orch.rollout.unsaved import Decided
from phoenix_orch.rollout.verifications import Verifications, Verifier
from phoenix_orch.runtime.faults import Faults
from phoenix_orch.traffic.router import TrafficRouter, TrafficState
from phoenix_orch.workload.workload import WorkloadState, WorkloadView

ABORT_RETRY = timedelta(milliseconds=50)
"""Wait before an abort that failed is tried again."""
PASS_LIMIT = 30.0
"""Real seconds after which a pass that hangs is cut off."""
_QUIET = RESTING | {State.INITIALIZING}
"""No release is on its way."""


def asks_nothing(rollout: Rollout) -> bool:
    """Nothing is on its way, and nobody waits for something to begin. Pure."""
    status = rollout.status
    if status.state is State.INITIALIZING:
        return True
    return (
        status.state in RESTING and not rollout.commands and rollout.target in {status.stable, status.canary}
    )


class RolloutController:
    """Drives every rollout of the store. `run` until cancelled, or `reconcile` one by hand."""

    def __init__(  # noqa: PLR0917 - its ports, in the order of their use
        self,
        store: RolloutStore,
        router: TrafficRouter,
        workload: WorkloadView,
        clock: Clock,
        verifier: Verifier,
        hands: Hands,
        *,
        notes: AbortNotes | None = None,
        gate: Gate | None = None,
    ) -> None:
        """`hands`: what changes instances, and shows them. `notes`: where aborts past Phoenix leave who
        made them and why. `gate`: when releases may begin; left out: always."""
        self._store = store
        self._router = router
        self._clock = clock
        self._found: list[Rollout] = []
        self._listed: dict[str, Rollout] = {}
        """As the store had them when it was last asked for all."""
        self._hands = hands
        self._gate = gate or open_gate()
        self._drift = Drift()
        self._passes = Passes(self._names, self._guarded, self._is_quiet)
        self._log = structlog.get_logger("phoenix.rollout-controller")
        self._faults = Faults(self._log)
        self._attempts = Attempts(self._faults, self._passes.wake)
        self._records = Records(store, self._faults)
        self._by_hand = AbortsByHand(notes, store) if notes is not None else None
        self._observing = Observing(
            store,
            router,
            workload,
            clock,
            hands,
            self._gate,
            records=self._records,
            faults=self._faults,
            attempts=self._attempts,
            by_hand=self._by_hand,
        )
        self._verifications = Verifications(verifier, self._faults)
        self._latches = Latches(store, router)

    def wake_one(self, name: str) -> None:
        """Look at one rollout now: it was changed."""
        self._passes.wake(name)

    def wake(self, service: str | None = None) -> None:
        """Look now: something changed, with this service or anywhere."""
        if service is None:
            self._passes.wake()
        elif names := [name for name, rollout in self._records.known.items() if rollout.service == service]:
            self._passes.wake(*names)

    def faults(self, name: str) -> dict[str, Exception]:
        """What keeps it from acting on a rollout now, by what it tries."""
        return self._faults.of(name)

    async def run(self) -> None:
        """Pass over all rollouts again and again."""
        try:
            await self._passes.run()
        finally:
            metrics.ROLLOUTS.forget_rollouts()
            await self._verifications.stop()

    async def reconcile_all(self) -> timedelta:
        """One pass over every rollout, side by side; returns how long to wait for the next, in real time."""
        waits = await asyncio.gather(*(self._guarded(name) for name in await self._names()))
        return min((RESTING_TICK, *waits))

    async def _names(self) -> Collection[str]:
        """All rollouts; those known last while the store is away."""
        try:
            found = await self._store.rollouts()
        except PhoenixError as error:
            self._faults.tell("store", error=error)
            return list(self._records.known)
        self._faults.mended("store")
        if found is not self._found:  # of the very same list everything is known
            self._found, self._listed = found, {rollout.name: rollout for rollout in found}
        for gone in self._records.known.keys() - self._listed.keys():
            self._forget(self._records.known[gone])
        return self._listed

    def _is_quiet(self, name: str) -> bool:
        if name in self._records.known:
            return self._records.known[name].status.state in _QUIET
        return name not in self._listed or asks_nothing(self._listed[name])

    async def _guarded(self, name: str) -> timedelta:
        """One pass that stops no other one, whatever it meets."""
        begun, outcome = time.perf_counter(), "failed"
        try:
            async with asyncio.timeout(PASS_LIMIT):
                wait = await self.reconcile(name)
        except Conflict:
            outcome = "conflict"
            return BREATH  # decided on old knowledge; look again
        except (PhoenixError, TimeoutError) as error:
            self._faults.tell(name, "pass", error=error)
            return TICK
        except Exception as error:  # noqa: BLE001 - a defect in one must not end the controller of all
            self._faults.tell(name, "pass", error=error, unforeseen=True)
            return TICK
        else:
            outcome = "ok"
            self._faults.mended(name, "pass")
            return wait
        finally:
            metrics.PASS_DURATION.labels(outcome).observe(time.perf_counter() - begun)

    def _forget(self, rollout: Rollout) -> None:
        """The rollout was removed."""
        metrics.ROLLOUTS.forget(rollout.name)
        self._records.forget(rollout.name)
        self._hands.forget(rollout.name)
        self._gate.forget(rollout.name)
        self._drift.forget(rollout.route)
        if self._by_hand is not None:
            self._by_hand.forget(rollout.route)
        self._faults.forget(rollout.name)
        self._verifications.end(rollout.name)
        self._latches.forget(rollout.name)

    async def reconcile(self, name: str) -> timedelta:
        """One pass over one rollout; returns how long to wait for the next, in real time.

        Raises what keeps it from deciding. An action that fails keeps no other one from being done.
        """
        looked, begun = self._verifications.running(), time.time_ns()
        rollout, stored = await self._records.read(name)
        view = await self._observing.look(rollout, looked=looked, stored=stored)
        decision = decide(rollout.spec, rollout.status, view.observed, self._clock.now())
        if not acts(rollout, decision):
            return await self._act(rollout, decision, view)
        with tracing.span(
            "rollout pass",
            started=begun,
            phoenix_rollout=name,
            phoenix_state=decision.status.state.value,
            phoenix_weight=decision.status.weight,
        ):
            return await self._act(rollout, decision, view)

    async def _act(self, rollout: Rollout, decision: Decision, view: View) -> timedelta:
        """Abort if that is due, record, make the world so; how long to wait for the next pass."""
        name, observed, state, workload = rollout.name, view.observed, view.state, view.workload
        stored, wait = view.stored, TICK
        if decision.abort is None:
            self._faults.mended(name, "abort")  # also when somebody else latched it
        elif not await self._abort(rollout, decision.abort):
            wait = ABORT_RETRY
        rollout = self._records.known[name] = await self._record(rollout, decision, state, stored=stored)
        metrics.ROLLOUTS.passed(facts_of(rollout, observed.traffic, self._clock.now()))
        self._gate.saw(rollout)
        if decision.clear_latch is not None:
            await self._attempts.attempt(name, "latch", self._clear_latch(rollout, decision.clear_latch))
        if observed.traffic_missing:
            self._latches.forget(name)
        elif state is not None and stored:
            await self._attempts.attempt(name, "latches", self._keep_latches(rollout, state))
        await self._scale(rollout, decision, workload, state)
        if decision.traffic is None:
            self._faults.mended(name, "steering")
        elif workload is not None:
            steering = self._steer(rollout, decision.traffic, decision.abort, state, workload)
            state = await self._attempts.attempt(name, "steering", steering) or state
        if workload is not None and (state is not None or observed.traffic_missing):
            await self._attempts.attempt(name, "release", self._hands.release(rollout, state, workload))
        self._verifications.want(rollout, decision.verify, view.looked)
        self._hands.keep(rollout, decision, workload)
        return min(wait, self._next_pass(rollout, decision))

    def _next_pass(self, rollout: Rollout, decision: Decision) -> timedelta:
        if rollout.status.state in RESTING:
            return RESTING_TICK
        if decision.requeue_after is None:
            return TICK
        return min(TICK, max(BREATH, self._clock.real(decision.requeue_after)))

    # -- acting ------------------------------------------------------------------------------------

    async def _abort(self, rollout: Rollout, revision: str) -> bool:
        """First of all actions, and no failure of it stops the pass: it is tried again at once."""
        try:
            with metrics.aborting("orchestrator"):
                await self._router.abort(rollout.route, revision)
        except PhoenixError as error:
            self._faults.tell(rollout.name, "abort", error=error)
            return False
        self._faults.mended(rollout.name, "abort")
        return True

    async def _record(
        self, rollout: Rollout, decision: Decision, state: TrafficState | None, *, stored: bool
    ) -> Rollout:
        """Store what was decided. A conflict ends the pass: the decision was made on old knowledge."""
        drift = self._drift.events(rollout, state, self._clock.now())
        stands = {"state": decision.status.state, "weight": decision.status.weight}
        events = tuple(event.model_copy(update=stands) for event in (*decision.events, *drift))
        handled = [c for c in rollout.commands if c.id in decision.status.handled]
        recorded = rollout
        if decision.status != rollout.status or events or handled or decision.release is not None:
            release = await self._labelled(rollout, decision.release)
            recorded = await self._records.save(
                rollout, Decided(decision.status, events, release), stored=stored
            )
        if decision.release is not None:
            metrics.RELEASES.labels(decision.release.outcome.value).inc()
        if drift and state is not None:
            self._drift.told(state)
        for event in events:
            self._log.info(event.message, reason=event.reason, rollout=rollout.name, revision=event.revision)
        return recorded

    async def _labelled(self, rollout: Rollout, release: Release | None) -> Release | None:
        if release is None:
            return None
        version = await self._attempts.attempt(
            rollout.name, "template", self._hands.version(rollout, release.revision)
        )
        return release.model_copy(update={"version": version}) if version is not None else release

    async def _clear_latch(self, rollout: Rollout, revision: str) -> None:
        await self._store.clear_cause(rollout.name, revision)
        await self._router.clear_latch(rollout.route, revision)
        self._drift.unsure(rollout.route)
        self._passes.wake(rollout.name)

    async def _keep_latches(self, rollout: Rollout, state: TrafficState) -> None:
        """A traffic object that was made anew gets the latches that the store knows of.

        One that goes because there are too many is told before: better twice than never.
        """
        changed = await self._latches.keep(rollout, state)
        for revision in changed.restored:
            message = f"the traffic object had lost the latch of {revision}; it was put back"
            await self._tell(rollout, "LatchRestored", message, revision)
        for revision in changed.spare:
            message = f"the latch of {revision} goes, the oldest of more than {LATCHES_KEPT}"
            await self._tell(rollout, "LatchForgotten", message, revision)
            await self._router.clear_latch(rollout.route, revision)

    async def _tell(self, rollout: Rollout, reason: str, message: str, revision: str) -> None:
        self._log.warning(message, reason=reason, rollout=rollout.name)
        event = Event(
            at=self._clock.now(),
            reason=reason,
            message=message,
            revision=revision,
            release=rollout.status.release,
        )
        await self._store.append_events(rollout.name, [event])

    async def _scale(
        self,
        rollout: Rollout,
        decision: Decision,
        workload: WorkloadState | None,
        state: TrafficState | None,
    ) -> None:
        for change in self._hands.changes(rollout, decision, workload, state):
            await self._attempts.attempt(rollout.name, change.what, change.do())

    async def _steer(
        self,
        rollout: Rollout,
        wanted: TrafficWanted,
        abort: str | None,
        state: TrafficState | None,
        workload: WorkloadState,
    ) -> TrafficState | None:
        """Write the traffic object if it differs from what is wanted; conditional on what was read.

        `abort`: there was no object to latch this revision on; the one that is made is born with the latch.
        """
        following = await self._hands.steered(rollout, wanted, state, workload)
        if following is not None and abort is not None and abort != wanted.stable:
            latched = tuple(dict.fromkeys((*following.aborted, abort)))
            following = following.model_copy(update={"aborted": latched})
        if following is None or following == state:
            if state is not None:
                self._drift.wrote(state)
            return state
        try:
            written = await self._router.write(following)
        except (Conflict, Latched):
            self._passes.wake(rollout.name)  # decided on old knowledge; look again
            return state
        except PhoenixError:
            self._drift.unsure(rollout.route)  # it may have been written all the same
            raise
        self._drift.wrote(written)
        self._passes.wake(rollout.name)
        return written
