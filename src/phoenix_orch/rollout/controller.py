"""The rollout controller: the shell around `machine.decide`.

One pass: observe, decide, abort if that is due, record, make the world so. A pass may be cut off
anywhere; the next one starts from what is stored and what is there (R7). While the store is away
passes go on from the last known rollout, so that instances keep being routed and an abort keeps
being tried (R2); what was decided meanwhile is stored in order when the store is back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import structlog

from phoenix_orch.kernel.clock import Clock
from phoenix_orch.kernel.errors import BadState, Conflict, Latched, NotFound, PhoenixError, Retryable
from phoenix_orch.observability import metrics, tracing
from phoenix_orch.rollout.aborts_by_hand import AbortNotes, AbortsByHand
from phoenix_orch.rollout.drift import Drift
from phoenix_orch.rollout.facts import Decision, Observed, TrafficWanted
from phoenix_orch.rollout.gate import Gate, open_gate, wants_to_begin
from phoenix_orch.rollout.hands import Hands
from phoenix_orch.rollout.latches import LATCHES_KEPT, Latches
from phoenix_orch.rollout.machine import decide
from phoenix_orch.rollout.measuring import acts, facts_of
from phoenix_orch.rollout.passes import BREATH, RESTING_TICK, TICK, Passes
from phoenix_orch.rollout.pictures import traffic_facts
from phoenix_orch.rollout.status import RESTING, Cause, Event, Obstacle, Release, Rollout, State
from phoenix_orch.rollout.store.store import RolloutStore
from phoenix_orch.rollout.unsaved import Decided, Unsaved
from phoenix_orch.rollout.verifications import Key as Verifying
from phoenix_orch.rollout.verifications import Verifications, Verifier
from phoenix_orch.runtime.faults import Faults
from phoenix_orch.traffic.router import TrafficRouter, TrafficState
from phoenix_orch.workload.workload import WorkloadState, WorkloadView

T = TypeVar("T")

ABORT_RETRY = timedelta(milliseconds=50)
"""Wait before an abort that failed is tried again."""
PASS_LIMIT = 30.0
"""Real seconds after which a pass that hangs is cut off."""
HEARING = 2.0
"""Real seconds for the words of the other processes, which are read side by side."""
_OTHERS_UNKNOWN = Obstacle(
    reason="GroupUnknown", message="where the others of its group stand is not known while the store is away"
)
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


@dataclass(frozen=True, slots=True)
class _View:
    """What a pass saw before it decided."""

    observed: Observed
    state: TrafficState | None
    workload: WorkloadState | None
    looked: frozenset[Verifying]
    """Verifications that ran already."""
    stored: bool
    """The store has everything that was decided before."""


async def _nothing() -> None:
    """In place of what is not asked for."""


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
        self._workload = workload
        self._clock = clock
        self._known: dict[str, Rollout] = {}
        self._found: list[Rollout] = []
        self._listed: dict[str, Rollout] = {}
        """As the store had them when it was last asked for all."""
        self._unsaved: dict[str, Unsaved] = {}
        self._hands = hands
        self._gate = gate or open_gate()
        self._drift = Drift()
        self._passes = Passes(self._names, self._guarded, self._is_quiet)
        self._log = structlog.get_logger("phoenix.rollout-controller")
        self._faults = Faults(self._log)
        self._by_hand = AbortsByHand(notes, store) if notes is not None else None
        self._verifications = Verifications(verifier, self._faults)
        self._latches = Latches(store, router)

    def wake_one(self, name: str) -> None:
        """Look at one rollout now: it was changed."""
        self._passes.wake(name)

    def wake(self, service: str | None = None) -> None:
        """Look now: something changed, with this service or anywhere."""
        if service is None:
            self._passes.wake()
        elif names := [name for name, rollout in self._known.items() if rollout.service == service]:
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
            return list(self._known)
        self._faults.mended("store")
        if found is not self._found:  # of the very same list everything is known
            self._found, self._listed = found, {rollout.name: rollout for rollout in found}
        for gone in self._known.keys() - self._listed.keys():
            self._forget(self._known.pop(gone))
        return self._listed

    def _is_quiet(self, name: str) -> bool:
        if name in self._known:
            return self._known[name].status.state in _QUIET
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
        self._unsaved.pop(rollout.name, None)
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
        rollout, stored = await self._read(name)
        observed, state, workload = await self._observe(rollout, stored=stored)
        decision = decide(rollout.spec, rollout.status, observed, self._clock.now())
        view = _View(observed, state, workload, looked=looked, stored=stored)
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

    async def _act(self, rollout: Rollout, decision: Decision, view: _View) -> timedelta:
        """Abort if that is due, record, make the world so; how long to wait for the next pass."""
        name, observed, state, workload = rollout.name, view.observed, view.state, view.workload
        stored, wait = view.stored, TICK
        if decision.abort is None:
            self._faults.mended(name, "abort")  # also when somebody else latched it
        elif not await self._abort(rollout, decision.abort):
            wait = ABORT_RETRY
        rollout = self._known[name] = await self._record(rollout, decision, state, stored=stored)
        metrics.ROLLOUTS.passed(facts_of(rollout, observed.traffic, self._clock.now()))
        self._gate.saw(rollout)
        if decision.clear_latch is not None:
            await self._attempt(name, "latch", self._clear_latch(rollout, decision.clear_latch))
        if observed.traffic_missing:
            self._latches.forget(name)
        elif state is not None and stored:
            await self._attempt(name, "latches", self._keep_latches(rollout, state))
        await self._scale(rollout, decision, workload, state)
        if decision.traffic is None:
            self._faults.mended(name, "steering")
        elif workload is not None:
            steering = self._steer(rollout, decision.traffic, decision.abort, state, workload)
            state = await self._attempt(name, "steering", steering) or state
        if workload is not None and (state is not None or observed.traffic_missing):
            await self._attempt(name, "release", self._hands.release(rollout, state, workload))
        self._verifications.want(rollout, decision.verify, view.looked)
        self._hands.keep(rollout, decision, workload)
        return min(wait, self._next_pass(rollout, decision))

    def _next_pass(self, rollout: Rollout, decision: Decision) -> timedelta:
        if rollout.status.state in RESTING:
            return RESTING_TICK
        if decision.requeue_after is None:
            return TICK
        return min(TICK, max(BREATH, self._clock.real(decision.requeue_after)))

    # -- observing ---------------------------------------------------------------------------------

    async def _read(self, name: str) -> tuple[Rollout, bool]:
        """The rollout with everything decided for it, and whether all of that is in the store."""
        try:
            rollout = await self._store.get(name)
            rollout = await self._catch_up(rollout)
        except (Conflict, NotFound):
            raise
        except PhoenixError as error:
            self._faults.tell(name, "store", error=error)
            if name not in self._known:
                raise
            return self._known[name], False
        self._faults.mended(name, "store")
        return rollout, True

    async def _catch_up(self, rollout: Rollout) -> Rollout:
        """Store what was decided while the store was away."""
        unsaved = self._unsaved.get(rollout.name)
        if unsaved is None or not unsaved.continues(rollout):
            self._unsaved.pop(rollout.name, None)
            return rollout
        while unsaved.waiting:
            oldest = unsaved.waiting[0]
            rollout = await self._store.save(
                rollout, oldest.status, events=oldest.events, release=oldest.release
            )
            unsaved.confirmed(rollout)
        del self._unsaved[rollout.name]
        return rollout

    async def _observe(
        self, rollout: Rollout, *, stored: bool
    ) -> tuple[Observed, TrafficState | None, WorkloadState | None]:
        """Look at everything; what cannot be seen is None, never a guess.

        A store that has just been found away is not asked again: nothing may delay an abort (R2).
        """
        name, store = rollout.name, self._store
        state, missing = await self._read_traffic(rollout)
        seen = await self._router.observe(rollout.route)
        workload = await self._attempt(name, "workload", self._workload.state(rollout.service))
        judged = rollout.status.canary or rollout.status.stable or ""
        verdict, cause, verified, hold = await asyncio.gather(
            self._heard(name, "verdict", lambda: store.judged(name)) if stored else _nothing(),
            self._heard(name, "cause", lambda: self._cause(rollout, judged, stored=stored)),
            self._heard(name, "verification", lambda: store.verification(name)) if stored else _nothing(),
            self._hold(rollout, stored=stored),
        )
        observed = Observed(
            target=rollout.target,
            replicas=rollout.replicas,
            fast=rollout.fast,
            workload=self._hands.groups(rollout, workload, state),
            traffic=traffic_facts(state, seen),
            traffic_missing=missing,
            verdict=verdict,
            cause=cause,
            verification=verified,
            commands=rollout.commands,
            obstacle=self._hands.obstacle(rollout),
            hold=hold,
            halt=self._gate.halt(rollout, self._clock.now()),
            steering=self._why_not_steered(name),
            awaits=self._hands.awaits(rollout),
        )
        return observed, state, workload

    async def _hold(self, rollout: Rollout, *, stored: bool) -> Obstacle | None:
        """Why no release of it may begin now; looked up only where one would."""
        if not wants_to_begin(rollout):
            return None
        others: Collection[Rollout] = ()
        if self._gate.concerns_others(rollout.name):
            found = await self._heard(rollout.name, "group", self._store.rollouts) if stored else None
            if found is None:
                return _OTHERS_UNKNOWN
            others = [self._latest(one) for one in found]
        return self._gate.hold(rollout, others, self._clock.now())

    def _latest(self, listed: Rollout) -> Rollout:
        """As this process decided it last, where a list is behind that."""
        known = self._known.get(listed.name)
        return known if known is not None and known.version >= listed.version else listed

    def _why_not_steered(self, name: str) -> str:
        """What stands until somebody mends it; what passes by itself is for the log."""
        fault = self._faults.of(name).get("steering")
        return str(fault) if isinstance(fault, BadState) else ""

    async def _cause(self, rollout: Rollout, judged: str, *, stored: bool) -> Cause | None:
        """Why `judged` was latched, as somebody told the store, or noted while there was nobody to tell."""
        noted = None
        if self._by_hand is not None:
            learning = self._by_hand.learn(rollout, stored=stored)
            noted = await self._attempt(rollout.name, "note of an abort", learning)
        if stored:
            return await self._store.cause(rollout.name, judged)
        return noted if noted is not None and noted.revision == judged else None

    async def _read_traffic(self, rollout: Rollout) -> tuple[TrafficState | None, bool]:
        """The traffic object, and whether it is known to be missing."""
        try:
            state = await self._router.read(rollout.route)
        except NotFound:
            return None, True
        except PhoenixError as error:
            self._faults.tell(rollout.name, "traffic", error=error)
            return None, False
        self._faults.mended(rollout.name, "traffic")
        return state, False

    async def _attempt(self, name: str, what: str, call: Awaitable[T]) -> T | None:
        """The answer; None, told once, where it cannot be had."""
        try:
            answer = await call
        except Conflict:
            self._passes.wake(name)
            return None
        except PhoenixError as error:
            self._faults.tell(name, what, error=error)
            return None
        self._faults.mended(name, what)
        return answer

    async def _heard(self, name: str, what: str, call: Callable[[], Awaitable[T]]) -> T | None:
        """A word of another process, if it can be had soon: nobody waits for it with an abort (R2)."""

        async def soon() -> T:
            try:
                async with asyncio.timeout(HEARING):
                    return await call()
            except TimeoutError:
                raise Retryable(f"no answer within {HEARING:g} s") from None

        return await self._attempt(name, what, soon())

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
            recorded = await self._save(rollout, Decided(decision.status, events, release), stored=stored)
        if decision.release is not None:
            metrics.RELEASES.labels(decision.release.outcome.value).inc()
        if drift and state is not None:
            self._drift.told(state)
        for event in events:
            self._log.info(event.message, reason=event.reason, rollout=rollout.name, revision=event.revision)
        return recorded

    async def _save(self, rollout: Rollout, decided: Decided, *, stored: bool) -> Rollout:
        """Write it, or keep it until the store is back."""
        if stored:
            try:
                return await self._store.save(
                    rollout, decided.status, events=decided.events, release=decided.release
                )
            except Conflict:
                raise
            except PhoenixError as error:
                self._faults.tell(rollout.name, "store", error=error)
        self._unsaved.setdefault(rollout.name, Unsaved(rollout)).add(decided)
        return rollout.model_copy(update={"status": decided.status})

    async def _labelled(self, rollout: Rollout, release: Release | None) -> Release | None:
        if release is None:
            return None
        version = await self._attempt(
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
            await self._attempt(rollout.name, change.what, change.do())

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
