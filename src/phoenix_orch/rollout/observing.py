"""What a pass sees before it decides: traffic, instances, and the words of the other processes."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

from phoenix_orch.kernel.clock import Clock
from phoenix_orch.kernel.errors import BadState, NotFound, PhoenixError
from phoenix_orch.rollout.aborts_by_hand import AbortsByHand
from phoenix_orch.rollout.attempts import Attempts
from phoenix_orch.rollout.facts import Observed
from phoenix_orch.rollout.gate import Gate, wants_to_begin
from phoenix_orch.rollout.hands import Hands
from phoenix_orch.rollout.pictures import traffic_facts
from phoenix_orch.rollout.records import Records
from phoenix_orch.rollout.status import Cause, Obstacle, Rollout
from phoenix_orch.rollout.store.store import RolloutStore
from phoenix_orch.rollout.verifications import Key as Verifying
from phoenix_orch.runtime.faults import Faults
from phoenix_orch.traffic.router import TrafficRouter, TrafficState
from phoenix_orch.workload.workload import WorkloadState, WorkloadView

_OTHERS_UNKNOWN = Obstacle(
    reason="GroupUnknown", message="where the others of its group stand is not known while the store is away"
)


@dataclass(frozen=True, slots=True)
class View:
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


class Observing:
    """The eyes of one controller."""

    def __init__(  # noqa: PLR0917 - its ports, in the order of their use
        self,
        store: RolloutStore,
        router: TrafficRouter,
        workload: WorkloadView,
        clock: Clock,
        hands: Hands,
        gate: Gate,
        *,
        records: Records,
        faults: Faults,
        attempts: Attempts,
        by_hand: AbortsByHand | None,
    ) -> None:
        """`by_hand`: finds who aborted past Phoenix; None: nobody leaves a note of that."""
        self._store = store
        self._router = router
        self._workload = workload
        self._clock = clock
        self._hands = hands
        self._gate = gate
        self._records = records
        self._faults = faults
        self._attempts = attempts
        self._by_hand = by_hand

    async def look(self, rollout: Rollout, *, looked: frozenset[Verifying], stored: bool) -> View:
        """Look at everything; what cannot be seen is None, never a guess. `looked`, `stored`: as of a View.

        A store that has just been found away is not asked again: nothing may delay an abort (R2).
        """
        name, store = rollout.name, self._store
        state, missing = await self._traffic(rollout)
        seen = await self._router.observe(rollout.route)
        workload = await self._attempts.attempt(name, "workload", self._workload.state(rollout.service))
        judged = rollout.status.canary or rollout.status.stable or ""
        heard = self._attempts.heard
        verdict, cause, verified, hold = await asyncio.gather(
            heard(name, "verdict", lambda: store.judged(name)) if stored else _nothing(),
            heard(name, "cause", lambda: self._cause(rollout, judged, stored=stored)),
            heard(name, "verification", lambda: store.verification(name)) if stored else _nothing(),
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
        return View(observed, state, workload, looked=looked, stored=stored)

    async def _hold(self, rollout: Rollout, *, stored: bool) -> Obstacle | None:
        """Why no release of it may begin now; looked up only where one would."""
        if not wants_to_begin(rollout):
            return None
        others: Collection[Rollout] = ()
        if self._gate.concerns_others(rollout.name):
            found = (
                await self._attempts.heard(rollout.name, "group", self._store.rollouts) if stored else None
            )
            if found is None:
                return _OTHERS_UNKNOWN
            others = [self._records.latest(one) for one in found]
        return self._gate.hold(rollout, others, self._clock.now())

    def _why_not_steered(self, name: str) -> str:
        """What stands until somebody mends it; what passes by itself is for the log."""
        fault = self._faults.of(name).get("steering")
        return str(fault) if isinstance(fault, BadState) else ""

    async def _cause(self, rollout: Rollout, judged: str, *, stored: bool) -> Cause | None:
        """Why `judged` was latched, as somebody told the store, or noted while there was nobody to tell."""
        noted = None
        if self._by_hand is not None:
            learning = self._by_hand.learn(rollout, stored=stored)
            noted = await self._attempts.attempt(rollout.name, "note of an abort", learning)
        if stored:
            return await self._store.cause(rollout.name, judged)
        return noted if noted is not None and noted.revision == judged else None

    async def _traffic(self, rollout: Rollout) -> tuple[TrafficState | None, bool]:
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
