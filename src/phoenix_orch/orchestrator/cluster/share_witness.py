"""The share of a route as its router counts it, put before what the traffic object says (rule R3).

Prometheus is asked beside the controller, never in its way: an abort waits for no answer (R2).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from phoenix_orch.health_validator import counters
from phoenix_orch.health_validator.counters import TrackerState
from phoenix_orch.health_validator.sources import prometheus_routed
from phoenix_orch.health_validator.sources.exposition import split
from phoenix_orch.health_validator.sources.prometheus_samples import Counted, scrapes
from phoenix_orch.kernel.errors import NotFound, PhoenixError
from phoenix_orch.orchestrator.cluster.declared import Rollouts
from phoenix_orch.orchestrator.cluster.prometheus import Endpoints, target_of
from phoenix_orch.runtime.faults import Faults
from phoenix_orch.traffic import share_watch
from phoenix_orch.traffic.router import TrafficRouter, TrafficSeen, TrafficState
from phoenix_orch.traffic.share_seen import Counts
from phoenix_orch.traffic.share_watch import Watch

PAUSE = 2.0
"""Seconds between two questions."""
SETTLING = 10.0
"""Seconds after a change of the weight, by the clock of Prometheus, whose requests are not counted. A router
takes five to follow, and an answer of Prometheus may be four old."""
FORGET = 60.0
"""Seconds after which a route that nobody asks about any more is not counted."""
ANSWERED = frozenset({"ok", "error", "abandoned"})
CANARY, STABLE = "canary", "stable"


@dataclass
class _Tally:
    """What has been read for one watch."""

    changed: float
    after: float | None = None
    """Scrapes before this moment are not counted; None: nothing has been read yet."""
    tracker: TrackerState = field(default_factory=TrackerState)
    read: dict[str, float] = field(default_factory=dict)
    endpoint: str = ""


@dataclass
class _Route:
    watch: Watch
    tally: _Tally
    asked: float


class WitnessedRouter:
    """A TrafficRouter whose `observe` believes the router's counters first. `run` until cancelled."""

    def __init__(
        self,
        router: TrafficRouter,
        rollouts: Rollouts,
        endpoints: Endpoints,
        *,
        settling: float = SETTLING,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Without any endpoint the traffic object alone is believed."""
        self._router = router
        self._rollouts = rollouts
        self._endpoints = endpoints
        self._settling = settling
        self._clock = clock
        self._routes: dict[str, _Route] = {}
        self._faults = Faults(structlog.get_logger("phoenix.share"))

    async def read(self, route: str) -> TrafficState:
        return await self._router.read(route)

    async def write(self, wanted: TrafficState) -> TrafficState:
        return await self._router.write(wanted)

    async def abort(self, route: str, revision: str) -> TrafficState:
        return await self._router.abort(route, revision)

    async def clear_latch(self, route: str, revision: str) -> TrafficState:
        return await self._router.clear_latch(route, revision)

    async def observe(self, route: str) -> TrafficSeen:
        """As the object and its status say, unless its router's counters know better."""
        by_object = await self._router.observe(route)
        if not self._endpoints or self._has_chosen(route):
            return by_object
        try:
            state = await self._router.read(route)
        except PhoenixError:
            return by_object
        now, wanted = self._clock(), state.weight if state.canary is not None else 0
        watch = self._followed(route, wanted, now)
        if wanted == 0:  # requests that were long under way still end, and are counted then
            return by_object
        share = share_watch.seen(watch, by_object.weight, now).share
        return by_object.model_copy(update={"weight": share})

    def _has_chosen(self, route: str) -> bool:
        """Requests of the route go to the canary past its weight: what was counted is no share then."""
        try:
            return self._rollouts.of_route(route).spec.traffic.canary_by is not None
        except NotFound:
            return False

    def _followed(self, route: str, wanted: int, now: float) -> Watch:
        known = self._routes.get(route)
        watch = share_watch.following(known.watch if known is not None else None, wanted, now)
        if known is None or watch is not known.watch:
            known = self._routes[route] = _Route(watch, _Tally(now), now)
        known.asked = now
        return watch

    # -- asking Prometheus -------------------------------------------------------------------------

    async def run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(PAUSE)

    async def look(self) -> None:
        """Once for every route that carries a weight."""
        now = self._clock()
        self._routes = {name: one for name, one in self._routes.items() if now - one.asked < FORGET}
        await asyncio.gather(
            *(self._guarded(name, one) for name, one in self._routes.items() if one.watch.wanted > 0)
        )

    async def _guarded(self, route: str, one: _Route) -> None:
        try:
            more = await self._counted(route, one.tally)
        except PhoenixError as error:
            self._faults.tell(route, "share", error=error)
            more = None
        except Exception as error:  # noqa: BLE001 - a witness that ends would be taken for one that waits
            self._faults.tell(route, "share", error=error, unforeseen=True)
            more = None
        else:
            self._faults.mended(route, "share")
        if more is None:
            one.watch = share_watch.uncounted(one.watch)
        else:
            one.watch = share_watch.counted(one.watch, more, self._clock())

    async def _counted(self, route: str, tally: _Tally) -> Counts | None:
        """What was counted since the last look; None: nobody counts. Raises PhoenixError."""
        one = self._rollouts.of_route(route)
        target, poller = target_of(one), self._endpoints.of(one).poller
        router = await self._endpoints.router(one, _wanted(one.spec.evidence.requests))
        routed = await prometheus_routed.read(poller, router, target, (router.requests,))
        found = prometheus_routed.counters(routed, router, target, {"canary": CANARY, "stable": STABLE})
        if not found:
            return None
        answer = routed.found[0]
        if tally.after is None:
            tally.after = answer.now + self._settling
        taken = scrapes(
            [one for one in (_since(one, tally.after) for one in found) if one.points],
            tally.tracker,
            tally.read,
            now=answer.now,
            switched=answer.endpoint != tally.endpoint,
        )
        tally.tracker, deltas = counters.update(tally.tracker, taken.samples, answer.now)
        tally.read, tally.endpoint = taken.read, answer.endpoint
        sums = {CANARY: 0, STABLE: 0}
        for increase in deltas.increases.values():
            for text, number in increase.values.items():
                key = split(text)
                if key.kind in ANSWERED:
                    sums[key.revision] += int(number)
        return Counts(sums[CANARY], sums[STABLE])


def _wanted(requests: str) -> str:
    """Whoever counts the evidence: the share is the router's matter."""
    return "auto" if requests == "application" else requests


def _since(one: Counted, after: float) -> Counted:
    """Without what was scraped before that."""
    return one._replace(points=tuple(point for point in one.points if point[0] >= after))
