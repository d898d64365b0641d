"""The rollout controller: the shell around `machine.decide`.

One pass: observe, decide, abort if that is due, record, make the world so. A pass may be cut off
anywhere; the next one starts from what is stored and what is there (R7). While the store is away
passes go on from the last known rollout, so that instances keep being routed and an abort keeps
being tried (R2); what was decided meanwhile is stored in order when the store is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

import structlog
from pydantic import ValidationError

from phoenix_orch.kernel.clock import Clock
from phoenix_orch.kernel.errors import (
    Conflict,
    Invalid,
    Latched,
    NotFound,
    PhoenixError,
    Retryable,
    Terminal,
)
from phoenix_orch.rollout.facts import Decision, GroupFacts, Observed, TrafficFacts, TrafficWanted
from phoenix_orch.rollout.machine import decide
from phoenix_orch.rollout.status import RESTING, Event, Release, Rollout, State
from phoenix_orch.rollout.store.store import RolloutStore
from phoenix_orch.rollout.unsaved import Decided, Unsaved
from phoenix_orch.runtime.faults import Faults
from phoenix_orch.traffic.router import Backend, Group, TrafficRouter, TrafficState
from phoenix_orch.workload.spec import Template
from phoenix_orch.workload.workload import InstanceState, Workload, WorkloadState

T = TypeVar("T")

TICK = timedelta(milliseconds=250)
"""Longest wait between two passes over a rollout that is on its way, in real time."""
RESTING_TICK = timedelta(seconds=1)
ABORT_RETRY = timedelta(milliseconds=50)
"""Wait before an abort that failed is tried again."""
BREATH = timedelta(milliseconds=10)
"""Shortest wait between two passes, however often something changes."""
PASS_LIMIT = 30.0
"""Real seconds after which a pass that hangs is cut off."""
VERIFY_PAUSE = 1.0
"""Real seconds before a verification that broke off begins again."""

_VERIFIED_IN = {State.BAKING: "promotion", State.ROLLING_BACK: "rollback"}

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
        self._unsaved: dict[str, Unsaved] = {}
        self._templates: dict[str, dict[str, tuple[Template, str]]] = {}
        self._written: dict[str, TrafficState] = {}
        self._drift_told: dict[str, TrafficState] = {}
        self._verifying: dict[tuple[str, int, str], asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._log = structlog.get_logger("phoenix.rollout-controller")
        self._faults = Faults(self._log)

    def wake(self) -> None:
        """Look now: something changed."""
        self._wake.set()

    async def run(self) -> None:
        """Pass over all rollouts again and again."""
        try:
            while True:
                self._wake.clear()
                wait = await self.reconcile_all()
                await asyncio.sleep(BREATH.total_seconds())
                try:
                    async with asyncio.timeout((wait - BREATH).total_seconds()):
                        await self._wake.wait()
                except TimeoutError:
                    pass
        finally:
            for task in self._verifying.values():
                task.cancel()
            await asyncio.gather(*self._verifying.values(), return_exceptions=True)

    async def reconcile_all(self) -> timedelta:
        """One pass over every rollout, side by side; returns how long to wait for the next, in real time."""
        try:
            names = [rollout.name for rollout in await self._store.rollouts()]
        except PhoenixError as error:
            self._faults.tell("store", error=error)
            names = list(self._known)
        else:
            self._faults.mended("store")
            for gone in set(self._known) - set(names):
                self._forget(self._known.pop(gone))
        waits = await asyncio.gather(*(self._guarded(name) for name in names))
        return min((RESTING_TICK, *waits))

    async def _guarded(self, name: str) -> timedelta:
        """One pass that stops no other one, whatever it meets."""
        try:
            async with asyncio.timeout(PASS_LIMIT):
                wait = await self.reconcile(name)
        except Conflict:
            return BREATH  # decided on old knowledge; look again
        except (PhoenixError, TimeoutError) as error:
            self._faults.tell(name, "pass", error=error)
            return TICK
        except Exception as error:  # noqa: BLE001 - a defect in one must not end the controller of all
            self._faults.tell(name, "pass", error=error, unforeseen=True)
            return TICK
        self._faults.mended(name, "pass")
        return wait

    def _forget(self, rollout: Rollout) -> None:
        """The rollout was removed."""
        for kept in (self._unsaved, self._templates):
            kept.pop(rollout.name, None)
        for told in (self._written, self._drift_told):
            told.pop(rollout.route, None)
        self._faults.forget(rollout.name)
        self._end_verifications(rollout.name, but=None)

    async def reconcile(self, name: str) -> timedelta:
        """One pass over one rollout; returns how long to wait for the next, in real time.

        Raises what keeps it from deciding. An action that fails keeps no other one from being done.
        """
        self._drop_ended_verifications(name)
        rollout, stored = await self._read(name)
        observed, state, workload = await self._observe(rollout, stored=stored)
        decision = decide(rollout.spec, rollout.status, observed, self._clock.now())
        wait = TICK
        if decision.abort is not None and not await self._abort(rollout, decision.abort):
            wait = ABORT_RETRY
        rollout = self._known[name] = await self._record(rollout, decision, state, stored=stored)
        if decision.clear_latch is not None:
            await self._attempt(name, "latch", self._clear_latch(rollout, decision.clear_latch))
        await self._scale(rollout, decision, workload)
        if decision.traffic is not None and workload is not None:
            steering = self._steer(rollout, decision.traffic, state, workload)
            state = await self._attempt(name, "steering", steering) or state
        if workload is not None and (state is not None or observed.traffic_missing):
            await self._attempt(name, "release", self._release(rollout, state, workload))
        self._verify(rollout, decision.verify)
        self._keep_templates(rollout, decision, workload)
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
        except (Retryable, Terminal) as error:
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
        verdict = await self._attempt(name, "verdict", store.verdict(name)) if stored else None
        cause = await self._attempt(name, "cause", store.cause(name, judged)) if stored else None
        verified = await self._attempt(name, "verification", store.verification(name)) if stored else None
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
            cause=cause,
            verification=verified,
            commands=rollout.commands,
        )
        return observed, state, workload

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
            self.wake()
            return None
        except PhoenixError as error:
            self._faults.tell(name, what, error=error)
            return None
        self._faults.mended(name, what)
        return answer

    # -- acting ------------------------------------------------------------------------------------

    async def _abort(self, rollout: Rollout, revision: str) -> bool:
        """First of all actions, and no failure of it stops the pass: it is tried again at once."""
        try:
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
        drift = self._drift(rollout, state)
        events = (*decision.events, *drift)
        handled = [c for c in rollout.commands if c.id in decision.status.handled]
        recorded = rollout
        if decision.status != rollout.status or events or handled or decision.release is not None:
            release = await self._labelled(rollout, decision.release)
            recorded = await self._save(rollout, Decided(decision.status, events, release), stored=stored)
        if drift and state is not None:
            self._drift_told[rollout.route] = state
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
            except (Retryable, Terminal) as error:
                self._faults.tell(rollout.name, "store", error=error)
        self._unsaved.setdefault(rollout.name, Unsaved(rollout)).add(decided)
        return rollout.model_copy(update={"status": decided.status})

    async def _labelled(self, rollout: Rollout, release: Release | None) -> Release | None:
        if release is None:
            return None
        found = await self._attempt(rollout.name, "template", self._template(rollout, release.revision))
        return release.model_copy(update={"version": found[1]}) if found is not None else release

    def _drift(self, rollout: Rollout, state: TrafficState | None) -> tuple[Event, ...]:
        """Somebody else's hand on the traffic is told of once; the write that follows puts it back (R13)."""
        if state is None:
            return ()
        written = self._written.get(rollout.route)
        moved = (
            written is not None
            and state.aborted == written.aborted  # whoever latches may also move groups
            and (state.weight, state.stable, state.canary) != (written.weight, written.stable, written.canary)
        )
        if not (moved or state.drifted):
            self._drift_told.pop(rollout.route, None)
            return ()
        if self._drift_told.get(rollout.route) == state:
            return ()
        message = "the traffic object was changed by hand"
        if written is not None and state.weight != written.weight:
            message += f": weight {state.weight} % instead of {written.weight} %"
        return (
            Event(
                at=self._clock.now(),
                reason="Drift",
                message=f"{message}; it is put back",
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
            await self._attempt(rollout.name, f"scale {revision}", self._scale_one(rollout, revision, count))

    async def _scale_one(self, rollout: Rollout, revision: str, count: int) -> None:
        template, _ = await self._template(rollout, revision)
        await self._workload.scale(rollout.service, template, count)

    async def _template(self, rollout: Rollout, revision: str) -> tuple[Template, str]:
        known = self._templates.setdefault(rollout.name, {})
        if revision not in known:
            kept = {one.revision: one for one in await self._store.revisions(rollout.name)}
            if revision not in kept:
                raise NotFound(
                    f"revision {revision} of {rollout.name} is not in the store",
                    remedy="apply the configuration that describes it again",
                )
            try:
                template = Template.model_validate(kept[revision].template)
            except ValidationError:  # its text would repeat the environment
                raise Terminal(
                    f"revision {revision} of {rollout.name} cannot be read from the store",
                    remedy="release it again under another version",
                ) from None
            known[revision] = (template, kept[revision].version)
        return known[revision]

    def _keep_templates(self, rollout: Rollout, decision: Decision, workload: WorkloadState | None) -> None:
        """Forget the templates of revisions that have gone."""
        status = rollout.status
        needed = {status.stable, status.canary, status.previous, *decision.instances}
        needed |= set(workload.wanted) if workload is not None else set(self._templates.get(rollout.name, {}))
        known = self._templates.pop(rollout.name, {})
        self._templates[rollout.name] = {r: template for r, template in known.items() if r in needed}

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
            self.wake()  # decided on old knowledge; look again
            return state
        except PhoenixError:
            self._written.pop(rollout.route, None)  # it may have been written all the same
            raise
        self._written[rollout.route] = written
        self.wake()
        return written

    async def _release(self, rollout: Rollout, state: TrafficState | None, workload: WorkloadState) -> None:
        """Let instances go that neither the traffic object names nor the data plane uses."""
        if all(instance.state is not InstanceState.DRAINING for instance in workload.instances):
            return
        seen = await self._router.observe(rollout.route)
        if seen.backends is None:
            return
        named = set(seen.backends)
        for group in (state.stable, state.canary, state.previous) if state is not None else ():
            if group is not None:
                named |= {backend.url for backend in group.backends}
        routed = frozenset(i.name for i in workload.instances if _url(i.port) in named)
        await self._workload.release(rollout.service, routed)

    # -- verifying ---------------------------------------------------------------------------------

    def _verify(self, rollout: Rollout, kind: str | None) -> None:
        """Begin a verification that is wanted, end one that the rollout has left behind."""
        status = rollout.status
        key = (rollout.name, status.release, _VERIFIED_IN.get(status.state, ""))
        self._end_verifications(rollout.name, but=key)
        if kind is not None and key not in self._verifying:
            name = f"verify {rollout.name}, release {status.release}, {kind}"
            self._verifying[key] = asyncio.create_task(self._verified(rollout, kind), name=name)

    async def _verified(self, rollout: Rollout, kind: str) -> None:
        try:
            await self._verifier(rollout, kind)
        except Exception as error:  # noqa: BLE001 - told, and begun again while it is wanted
            unforeseen = not isinstance(error, PhoenixError)
            self._faults.tell(rollout.name, f"verification of the {kind}", error=error, unforeseen=unforeseen)
            await asyncio.sleep(VERIFY_PAUSE)
        else:
            self._faults.mended(rollout.name, f"verification of the {kind}")

    def _end_verifications(self, name: str, *, but: tuple[str, int, str] | None) -> None:
        for key, task in self._verifying.items():
            if key[0] == name and key != but:
                task.cancel()

    def _drop_ended_verifications(self, name: str) -> None:
        """Before looking: a result that was published since the last look is seen by this one."""
        for key in [key for key, task in self._verifying.items() if key[0] == name and task.done()]:
            del self._verifying[key]


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
