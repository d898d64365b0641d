"""The rollout controller: the shell around `machine.decide`.

One pass: observe, decide, abort if that is due, record, make the world so. A pass may be cut off
anywhere; the next one starts from what is stored and what is there (R7). While the store is away
passes go on with the last known rollout, so that instances keep being routed and an abort keeps
being tried (R2); what was decided is stored when the store is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any, TypeVar

import structlog

from phoenix_orch.kernel.clock import Clock
from phoenix_orch.kernel.errors import Conflict, Invalid, Latched, NotFound, PhoenixError, Retryable
from phoenix_orch.rollout.facts import Decision, GroupFacts, Observed, TrafficFacts, TrafficWanted
from phoenix_orch.rollout.machine import decide
from phoenix_orch.rollout.status import RESTING, Event, Release, Revision, Rollout
from phoenix_orch.rollout.store.store import RolloutStore
from phoenix_orch.traffic.router import Backend, Group, TrafficRouter, TrafficState
from phoenix_orch.workload.spec import Template
from phoenix_orch.workload.workload import Workload, WorkloadState

T = TypeVar("T")

TICK = timedelta(milliseconds=250)
"""Longest wait between two passes over a rollout that is on its way, in real time."""
RESTING_TICK = timedelta(seconds=1)

Verifier = Callable[[Rollout, str], Coroutine[Any, Any, None]]
"""Runs the verification steps of `kind` for a rollout and publishes the result in the store."""


class RolloutController:
    """Drives every rollout of the store. `run` until cancelled, or `reconcile` one by hand."""

    def __init__(
        self,
        store: RolloutStore,
        router: TrafficRouter,
        workload: Workload,
        clock: Clock,
        verifier: Verifier,
    ) -> None:
        self._store = store
        self._router = router
        self._workload = workload
        self._clock = clock
        self._verifier = verifier
        self._known: dict[str, Rollout] = {}
        self._templates: dict[tuple[str, str], tuple[Template, str]] = {}
        self._written: dict[str, TrafficState] = {}
        self._verifying: dict[str, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._log = structlog.get_logger("phoenix.rollout-controller")
        self._complained: dict[str, str] = {}

    def wake(self) -> None:
        """Look now: something changed."""
        self._wake.set()

    async def run(self) -> None:
        """Pass over all rollouts again and again."""
        try:
            while True:
                self._wake.clear()
                wait = await self.reconcile_all()
                try:
                    async with asyncio.timeout(wait.total_seconds()):
                        await self._wake.wait()
                except TimeoutError:
                    pass
        finally:
            for task in self._verifying.values():
                task.cancel()
            await asyncio.gather(*self._verifying.values(), return_exceptions=True)

    async def reconcile_all(self) -> timedelta:
        """One pass over every rollout; returns how long to wait for the next, in real time."""
        try:
            rollouts = await self._store.rollouts()
            names = [rollout.name for rollout in rollouts]
            for gone in set(self._known) - set(names):
                self._known.pop(gone, None)
        except Retryable as error:
            self._complain("store", error)
            names = list(self._known)
        wait = RESTING_TICK
        for name in names:
            try:
                wait = min(wait, await self.reconcile(name))
            except PhoenixError as error:
                self._complain(name, error)
                wait = TICK
        return wait

    async def reconcile(self, name: str) -> timedelta:
        """One pass over one rollout; returns how long to wait for the next, in real time."""
        rollout = await self._read(name)
        observed, state, workload = await self._observe(rollout)
        decision = decide(rollout.spec, rollout.status, observed, self._clock.now())
        if decision.abort is not None:
            await self._abort(rollout, decision.abort)
        rollout = await self._record(rollout, decision, state)
        self._known[name] = rollout
        if decision.clear_latch is not None:
            await self._clear_latch(rollout, decision.clear_latch)
        await self._scale(rollout, decision, workload)
        if decision.traffic is not None and workload is not None:
            state = await self._steer(rollout, decision.traffic, state, workload)
        if workload is not None:
            await self._release(rollout, state, workload)
        if decision.verify is not None:
            self._verify(rollout, decision.verify)
        self._complained.pop(name, None)
        return self._next_pass(rollout, decision)

    def _next_pass(self, rollout: Rollout, decision: Decision) -> timedelta:
        if rollout.status.state in RESTING:
            return RESTING_TICK
        if decision.requeue_after is None:
            return TICK
        return min(TICK, max(timedelta(milliseconds=10), self._clock.real(decision.requeue_after)))

    # -- observing ---------------------------------------------------------------------------------

    async def _read(self, name: str) -> Rollout:
        try:
            return await self._store.get(name)
        except Retryable as error:
            self._complain("store", error)
            known = self._known.get(name)
            if known is None:
                raise
            return known

    async def _observe(self, rollout: Rollout) -> tuple[Observed, TrafficState | None, WorkloadState | None]:
        """Look at everything; what cannot be seen is None, never a guess."""
        state, missing = await self._read_traffic(rollout)
        seen = await self._router.observe(rollout.route)
        workload = await self._attempt("workload", self._workload.state(rollout.service))
        judged = rollout.status.canary or rollout.status.stable or ""
        verdict = await self._attempt("store", self._store.verdict(rollout.name))
        traffic = None
        if state is not None:
            traffic = TrafficFacts(
                stable=state.stable.revision,
                canary=state.canary.revision if state.canary else None,
                previous=state.previous.revision if state.previous else None,
                weight=state.weight,
                aborted=state.aborted,
                seen=seen.weight,
                seen_canary=seen.canary_revision,
                seen_stable=seen.stable_revision,
            )
        observed = Observed(
            target=rollout.target,
            replicas=rollout.replicas,
            fast=rollout.fast,
            workload=_groups(workload),
            traffic=traffic,
            traffic_missing=missing,
            verdict=verdict[0] if verdict else None,
            cause=await self._attempt("store", self._store.cause(rollout.name, judged)),
            verification=await self._attempt("store", self._store.verification(rollout.name)),
            commands=rollout.commands,
        )
        return observed, state, workload

    async def _read_traffic(self, rollout: Rollout) -> tuple[TrafficState | None, bool]:
        """The traffic object, and whether it is known to be missing."""
        try:
            state = await self._router.read(rollout.route)
        except NotFound:
            return None, True
        except (Retryable, Invalid) as error:
            self._complain(rollout.route, error)
            return None, False
        return state, False

    async def _attempt(self, what: str, call: Awaitable[T]) -> T | None:
        try:
            return await call
        except (Retryable, NotFound) as error:
            self._complain(what, error)
            return None

    # -- acting ------------------------------------------------------------------------------------

    async def _abort(self, rollout: Rollout, revision: str) -> None:
        """First of all actions, and no failure of it stops the pass: it is tried again at once."""
        try:
            await self._router.abort(rollout.route, revision)
        except PhoenixError as error:
            self._complain(f"abort of {rollout.name}", error)
            self.wake()

    async def _record(self, rollout: Rollout, decision: Decision, state: TrafficState | None) -> Rollout:
        """Store what was decided. A conflict ends the pass: the decision was made on old knowledge."""
        events = (*decision.events, *self._drift(rollout, state))
        handled = [c for c in rollout.commands if c.id in decision.status.handled]
        if decision.status == rollout.status and not events and not handled and decision.release is None:
            return rollout
        release = await self._labelled(rollout, decision.release)
        for event in decision.events:
            self._log.info(event.message, reason=event.reason, rollout=rollout.name, revision=event.revision)
        try:
            return await self._store.save(rollout, decision.status, events=events, release=release)
        except Conflict:
            self.wake()
            raise
        except Retryable as error:
            self._complain("store", error)
            return rollout.model_copy(update={"status": decision.status})

    async def _labelled(self, rollout: Rollout, release: Release | None) -> Release | None:
        if release is None:
            return None
        _, version = await self._template(rollout, release.revision)
        return release.model_copy(update={"version": version})

    def _drift(self, rollout: Rollout, state: TrafficState | None) -> tuple[Event, ...]:
        """Somebody else's hand on the weight is told of; the write that follows puts it back (R13)."""
        written = self._written.get(rollout.route)
        if state is None or written is None or state.aborted != written.aborted:
            return ()
        same = (state.weight, state.stable, state.canary) == (written.weight, written.stable, written.canary)
        if same and not state.drifted:
            return ()
        self._written.pop(rollout.route)
        message = (
            f"the traffic object was changed by hand: weight {state.weight} % instead of {written.weight} %"
        )
        return (
            Event(
                at=self._clock.now(),
                reason="Drift",
                message=f"{message}; restored",
                revision=rollout.status.canary or "",
                release=rollout.status.release,
            ),
        )

    async def _clear_latch(self, rollout: Rollout, revision: str) -> None:
        await self._store.clear_cause(rollout.name, revision)
        await self._router.clear_latch(rollout.route, revision)
        self._written.pop(rollout.route, None)
        self.wake()

    async def _scale(self, rollout: Rollout, decision: Decision, workload: WorkloadState | None) -> None:
        present = set(workload.wanted) if workload is not None else set()
        for revision in sorted(present | set(decision.instances)):
            count = decision.instances.get(revision, 0)
            if workload is not None and workload.wanted.get(revision, 0) == count:
                continue
            template, _ = await self._template(rollout, revision)
            await self._workload.scale(rollout.service, template, count)

    async def _template(self, rollout: Rollout, revision: str) -> tuple[Template, str]:
        key = (rollout.name, revision)
        if key not in self._templates:
            for kept in await self._store.revisions(rollout.name):
                self._templates[(rollout.name, kept.revision)] = _template_of(kept)
        if key not in self._templates:
            raise NotFound(
                f"revision {revision} of {rollout.name} is not in the store",
                remedy="apply the configuration that describes it again",
            )
        return self._templates[key]

    async def _steer(
        self,
        rollout: Rollout,
        wanted: TrafficWanted,
        state: TrafficState | None,
        workload: WorkloadState,
    ) -> TrafficState | None:
        """Write the traffic object if it differs from what is wanted; conditional on what was read."""
        following = _traffic_state(rollout.route, wanted, state, workload)
        if following is None or following == state:
            if state is not None:
                self._written[rollout.route] = state
            return state
        try:
            written = await self._router.write(following)
        except (Conflict, Latched):
            self._written.pop(rollout.route, None)
            self.wake()  # decided on old knowledge; look again
            return state
        self._written[rollout.route] = written
        self.wake()
        return written

    async def _release(self, rollout: Rollout, state: TrafficState | None, workload: WorkloadState) -> None:
        """Let instances go that neither the traffic object names nor the data plane uses."""
        seen = await self._router.observe(rollout.route)
        if seen.backends is None:
            return
        named = set(seen.backends)
        for group in (state.stable, state.canary, state.previous) if state is not None else ():
            if group is not None:
                named |= {backend.url for backend in group.backends}
        routed = frozenset(i.name for i in workload.instances if _url(i.port) in named)
        await self._workload.release(rollout.service, routed)

    def _verify(self, rollout: Rollout, kind: str) -> None:
        key = f"{rollout.name}/{rollout.status.release}/{kind}"
        running = self._verifying.get(key)
        if running is not None and not running.done():
            return
        for old in [key for key, task in self._verifying.items() if task.done()]:
            failure = self._verifying.pop(old).exception()
            if failure is not None:
                self._log.warning("verification broke off", verification=old, error=str(failure))
        self._verifying[key] = asyncio.create_task(self._verifier(rollout, kind), name=f"verify {key}")

    def _complain(self, what: str, error: Exception) -> None:
        """Say a fault once, not on every pass."""
        text = str(error)
        if self._complained.get(what) != text:
            self._complained[what] = text
            self._log.warning(text, what=what)


def _template_of(kept: Revision) -> tuple[Template, str]:
    return Template.model_validate(kept.template), kept.version


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def _groups(workload: WorkloadState | None) -> dict[str, GroupFacts] | None:
    if workload is None:
        return None
    revisions = {instance.revision for instance in workload.instances}
    return {
        revision: GroupFacts(
            present=len(workload.of(revision)),
            ready=len(workload.ready(revision)),
        )
        for revision in revisions
    }


def _traffic_state(
    route: str, wanted: TrafficWanted, state: TrafficState | None, workload: WorkloadState
) -> TrafficState | None:
    """The object as it should be. None: it cannot be written now without leaving stable empty (R5)."""
    known = (state.stable, state.canary, state.previous) if state is not None else ()
    groups = {group.revision: group for group in known if group is not None}

    def group(revision: str) -> Group:
        backends = tuple(
            Backend(instance=instance.name, url=_url(instance.port))
            for instance in sorted(workload.ready(revision), key=lambda i: i.name)
        )
        return Group(revision=revision, backends=backends)

    stable = group(wanted.stable)
    if not stable.backends:
        if wanted.stable not in groups or not groups[wanted.stable].backends:
            return None
        stable = groups[wanted.stable]  # all of stable is unready: the last known addresses stay
    canary = group(wanted.canary) if wanted.canary is not None else None
    return TrafficState(
        route=route,
        version=state.version if state is not None else 0,
        stable=stable,
        canary=canary,
        previous=group(wanted.previous) if wanted.previous is not None else None,
        weight=wanted.weight if canary is not None and canary.backends else 0,
        aborted=state.aborted if state is not None else (),
    )
