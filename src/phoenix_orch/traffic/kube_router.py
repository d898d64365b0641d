"""What both routers of a cluster have in common: reading, conditional writes, the abort, and drift.

Decisions are in `rules.py`, `ingress_plan.py` and `route_plan.py`; here objects are fetched, patched on
the version that was read, and fetched again when somebody was quicker. The version of a TrafficState is
a number in the record; the API server's resourceVersion guards every write of it. A conflict about
anything else on the object (its status, somebody's label) is no conflict about traffic: it is tried
again.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import structlog

from phoenix_orch.kernel.errors import BadState, Conflict, NotFound, PhoenixError, Retryable
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.patches import merge_patch_of
from phoenix_orch.kube.resources import ENDPOINT_SLICES, Object, Resource
from phoenix_orch.traffic import rules
from phoenix_orch.traffic.cached_reads import CachedReads, Reads
from phoenix_orch.traffic.contest import PAUSE, Contest
from phoenix_orch.traffic.kube_record import (
    check_place,
    check_route,
    disowned,
    share_of_canary_service,
    stands_on,
)
from phoenix_orch.traffic.router import Group, TrafficSeen, TrafficState

ATTEMPTS = 8
"""Times a write is tried on an object that others keep changing, without touching its traffic."""
SETTLED = 5.0
"""Seconds after which a controller has taken up what an object says. ingress-nginx looks once a second;
Traefik waits two between changes, and answers in a route's status before it obeys."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something people should hear of."""

    route: str
    reason: str
    """Drift, DriftContested, Recreated."""
    message: str


Tell = Callable[[Notice], None]


@dataclass(frozen=True, slots=True)
class Found:
    """The traffic object of a route as it stands."""

    recorded: TrafficState | None
    """What was written last; None: nothing that can be read."""
    live: int
    """What the canary's Service gets, in per cent; of several objects, by the one that gives it most."""
    lowest: int
    """The same, by the one that gives it least."""
    told: tuple[str, ...]
    """How the object differs from what was written, in words."""
    hand: str
    """Who else changed it last; empty: unknown."""
    canary_service: str
    latched: tuple[str, ...] = ()
    """Latches on an object without a record."""
    ours: bool = True
    """It exists and bears our sign."""
    outdated: bool = False
    """Something else has been declared since it was written."""

    @property
    def state(self) -> TrafficState | None:
        """As `TrafficRouter.read` gives it."""
        if self.recorded is None or not (self.told or self.outdated):
            return self.recorded
        update: dict[str, object] = {"drifted": True}
        has_canary = self.recorded.canary is not None and not stands_on(self.recorded, self.canary_service)
        if self.told and has_canary:
            update["weight"] = self.live
        return self.recorded.model_copy(update=update)

    def shown(self, wanted: int) -> int:
        """The share that all objects together show: no more than the least of them, until all have what is
        wanted, and what is above it at once (rule R3)."""
        return self.live if self.live > wanted else self.lowest


F = TypeVar("F", bound=Found)


class KubernetesRouter(ABC, Generic[F]):
    """A TrafficRouter of one namespace. Holds nothing open but the client it is given."""

    def __init__(
        self,
        client: KubeClient,
        namespace: str,
        *,
        tell: Tell | None = None,
        clock: Callable[[], float] = time.monotonic,
        settled: float = SETTLED,
        cached: CachedReads | None = None,
    ) -> None:
        """`tell` hears of drift; it is logged where nobody listens. `clock`: seconds that never go back.
        `settled`: how many of them an object has to stand unchanged until it is believed to be obeyed.
        `cached`: `read` and `observe` look there; writes and aborts always ask the API server."""
        self._client = client
        self._reads: Reads = cached or client
        self._cached = cached
        self._namespace = namespace
        self._tell = tell or _log
        self._clock = clock
        self._latches: dict[str, tuple[str, ...]] = {}
        self._contests: dict[str, Contest] = {}
        self._settled = settled
        self._since: dict[str, tuple[int, float]] = {}
        """What the object says, and since when."""
        self._seen: dict[str, tuple[int, TrafficSeen]] = {}
        """The share that was believed last, with what was seen of it."""

    @abstractmethod
    async def release(self, route: str) -> None:
        """Stop steering: all traffic to stable, and no sign of Phoenix left, nor its latches. Idempotent."""

    # -- what each kind of object does in its own way ----------------------------------------------

    @abstractmethod
    async def _look(self, reads: Reads, route: str, *, fully: bool) -> F | None:
        """The object as it stands; None where there is none that is ours or may become so.

        `fully`: compare it with everything it is derived from; else only with its own record.
        """

    @abstractmethod
    async def _store(
        self, client: KubeClient, found: F | None, state: TrafficState, *, raising: bool
    ) -> None:
        """Write `state`, if the object is still as `found`. Raises Conflict.

        `raising`: the canary gets more, so that everything else has to be in order first.
        """

    @abstractmethod
    async def _rescue(self, client: KubeClient, found: F, revision: str) -> None:
        """Take all traffic from the canary of an object without a record, and latch `revision` on it."""

    @abstractmethod
    def _canary(self, found: F | None) -> str:
        """The canary's Service; empty where nobody has said."""

    @abstractmethod
    def _vouched(self, found: F) -> bool:
        """The status says that the data plane takes the object as it stands, as far as it says anything."""

    # -- what everybody does with it ---------------------------------------------------------------

    async def read(self, route: str) -> TrafficState:
        """As `TrafficRouter.read`. An object that is not Phoenix's yet does not exist for it."""
        check_route(route)
        found = await self._look(self._reads, route, fully=True)
        state = found.state if found is not None else None
        if state is None:
            raise _unknown(route)
        self._latches[route] = state.aborted
        return state

    async def write(self, wanted: TrafficState) -> TrafficState:
        """As `TrafficRouter.write`. Also raises BadState for what is not Phoenix's, or would fail users."""
        check_route(wanted.route)
        stored: TrafficState | None = None
        for _ in range(ATTEMPTS):
            found = await self._look(self._client, wanted.route, fully=True)
            recorded = found.recorded if found is not None else None
            if stored is not None and recorded == stored and found is not None and not found.told:
                return stored  # the attempt that seemed to fail was ours
            stored = rules.written(recorded, self._with_latches(found, wanted))
            canary = self._canary(found)
            check_place(stored, canary)
            share = share_of_canary_service(stored, canary)
            if found is not None and share >= found.live and not _latched(stored):
                self._hold_back(found, recorded, stored)
            raising = share > (found.lowest if found is not None else 0)
            try:
                await self._store(self._client, found, stored, raising=raising)
            except Conflict:
                continue
            self._wrote(found, stored)
            return stored
        raise Conflict(
            f"the traffic object of route {wanted.route!r} changes all the time",
            remedy="look who else writes it: kubectl get --show-managed-fields",
        )

    async def abort(self, route: str, revision: str) -> TrafficState:
        """As `TrafficRouter.abort`, over the lane that nothing else can fill.

        Of an object whose record is lost the canary's traffic is taken all the same; the state given back
        has version 0 then.
        """
        check_route(route)
        return await self._change(
            self._client.urgent, route, lambda state: rules.aborted(state, revision), rescue=revision
        )

    async def clear_latch(self, route: str, revision: str) -> TrafficState:
        """As `TrafficRouter.clear_latch`."""
        check_route(route)
        return await self._change(self._client, route, lambda state: rules.cleared(state, revision))

    async def observe(self, route: str) -> TrafficSeen:
        """As `TrafficRouter.observe`, by what the object and its status say: the last of the witnesses
        in `share_seen.py`."""
        try:
            check_route(route)
            found = await self._look(self._reads, route, fully=True)
        except PhoenixError:
            return TrafficSeen(weight=None)
        if found is None or found.recorded is None or not self._vouched(found):
            self._moves(route)
            return TrafficSeen(weight=None)
        share = found.shown(share_of_canary_service(found.recorded, found.canary_service))
        return self._settle(route, share, seen_of(found.recorded, share, found.canary_service))

    def _settle(self, route: str, live: int, seen: TrafficSeen) -> TrafficSeen:
        """`seen` once it has stood long enough; until then what was seen before of the same revisions."""
        now = self._clock()
        share, since = self._since.get(route, (None, now))
        if share != live:
            self._moves(route)
            since = now
        self._since[route] = live, since
        if now - since >= self._settled:
            self._seen[route] = live, seen
            return seen
        _, before = self._seen.get(route, (live, TrafficSeen(weight=None)))
        return before if _revisions(before) == _revisions(seen) else TrafficSeen(weight=None)

    def _moves(self, route: str) -> None:
        """The share is another one from now on. What was believed before holds until that is believed, too.

        Not where a third share was there in between: a release that is taken back before its first weight
        was believed would be said to be off the data plane while its share may be on its way there.
        """
        share, _ = self._since.pop(route, (None, 0.0))
        believed, _ = self._seen.get(route, (share, None))
        if share is not None and share != believed:
            del self._seen[route]

    async def _change(
        self,
        client: KubeClient,
        route: str,
        change: Callable[[TrafficState], TrafficState],
        *,
        rescue: str | None = None,
    ) -> TrafficState:
        """Change what is recorded, whatever stands there; put back what differs in the same write."""
        for _ in range(ATTEMPTS):
            found = await self._look(client, route, fully=rescue is None)
            if found is None or not found.ours or (found.recorded is None and rescue is None):
                raise _unknown(route)
            try:
                if found.recorded is None:
                    assert rescue is not None
                    await self._rescue(client, found, rescue)
                    return _rescued(route, rescue)
                after = change(found.recorded)
                if after is found.recorded:
                    if rescue is None or not found.told:
                        return after
                    after = after.model_copy(update={"version": after.version + 1})
                await self._store(client, found, after, raising=False)
            except Conflict:
                continue
            self._wrote(found, after)
            return after
        raise Retryable(
            f"the traffic object of route {route!r} changes all the time", remedy="it is tried again"
        )

    def _with_latches(self, found: F | None, wanted: TrafficState) -> TrafficState:
        """What was latched on an object that is made anew stays latched: what stands on it, and what was
        read of it last."""
        if found is not None and found.recorded is not None:
            return wanted
        kept = (*(found.latched if found else ()), *self._latches.get(wanted.route, ()))
        missing = tuple(revision for revision in kept if revision != wanted.stable.revision)
        return wanted.model_copy(update={"aborted": tuple(dict.fromkeys((*wanted.aborted, *missing)))})

    def _hold_back(self, found: F, recorded: TrafficState | None, stored: TrafficState) -> None:
        """Raises Retryable when only somebody's change would be undone, and they insist on it."""
        if not found.told or recorded is None:
            return
        same = recorded.model_copy(update={"version": stored.version}) == stored
        wait = self._contest(stored.route).wait(self._clock())
        if same and wait > 0:
            raise Retryable(
                f"{_first(found)}; somebody puts it so again and again{_by(found)}: Phoenix puts it back"
                f" every {PAUSE:.0f} s, in {wait:.0f} s",
                remedy="let the other tool ignore the weights",
            )

    def _wrote(self, found: F | None, stored: TrafficState) -> None:
        route = stored.route
        if (found is None or found.recorded is None) and route in self._latches:
            self._tell(Notice(route, "Recreated", "the traffic object was gone; it was made again"))
        if found is not None and found.told and found.recorded is not None:
            begins = self._contest(route).put_back(self._clock())
            self._tell(Notice(route, "Drift", f"{'; '.join(found.told)}{_by(found)}; it was put back"))
            if begins:
                self._tell(
                    Notice(
                        route,
                        "DriftContested",
                        f"{_first(found)} again and again{_by(found)}: from now on Phoenix puts it back every"
                        f" {PAUSE:.0f} s; let the other tool ignore the weights",
                    )
                )
        self._latches[route] = stored.aborted
        share = share_of_canary_service(stored, self._canary(found))
        if found is None or not found.live == found.lowest == share:
            self._moves(route)
            self._since[route] = share, self._clock()

    def _contest(self, route: str) -> Contest:
        return self._contests.setdefault(route, Contest())

    async def _put(
        self, client: KubeClient, resource: Resource, found: Object, changes: Mapping[str, Any]
    ) -> Object:
        """Patch an object as it was found. Raises Conflict."""
        name = found["metadata"]["name"]
        patched = await client.patch(resource, name, merge_patch_of(found, changes), self._namespace)
        self._note(resource, patched)
        return patched

    def _note(self, resource: Resource, written: Object) -> None:
        if self._cached is not None:
            self._cached.wrote(resource, written)

    async def _give_back(self, resource: Resource, found: Object, changes: Mapping[str, Any]) -> None:
        """Make the last changes, and then own nothing of the object."""
        patched = await self._put(self._client, resource, found, changes)
        if (disown := disowned(patched, self._client.manager)) is not None:
            await self._put(self._client, resource, patched, disown)

    async def _check_endpoints(self, service: str) -> None:
        """Raises BadState when a Service has nothing that serves: users would get 503."""
        slices = await self._client.list(
            ENDPOINT_SLICES, self._namespace, labels=f"kubernetes.io/service-name={service}"
        )
        if not any(_serving(endpoint) for one in slices.items for endpoint in one.get("endpoints") or []):
            raise BadState(
                f"Service {service!r} has no ready endpoint: its share of the requests would fail",
                remedy="wait until a pod of it is ready; `kubectl get endpointslices` shows them",
            )


def seen_of(state: TrafficState, share: int, canary_service: str) -> TrafficSeen:
    """What is seen when the canary's Service is known to get `share` per cent."""
    canary = state.canary if state.canary and state.canary.backends else None
    moved = stands_on(state, canary_service)
    return TrafficSeen(
        weight=(0 if share == 100 else None) if moved else share,
        canary_revision=canary.revision if canary else None,
        stable_revision=state.stable.revision,
        backends=frozenset(b.url for group in (state.stable, canary) if group for b in group.backends),
    )


def _revisions(seen: TrafficSeen) -> tuple[str | None, str | None]:
    return seen.canary_revision, seen.stable_revision


def _serving(endpoint: dict[str, object]) -> bool:
    conditions = endpoint.get("conditions") or {}
    assert isinstance(conditions, dict)
    return conditions.get("ready") is not False  # unknown counts as ready, says the API


def _latched(state: TrafficState) -> bool:
    return state.canary is not None and state.canary.revision in state.aborted


def _rescued(route: str, revision: str) -> TrafficState:
    return TrafficState(route=route, stable=Group(revision=""), aborted=(revision,))


def _unknown(route: str) -> NotFound:
    return NotFound(f"there is no route {route!r}", remedy="it takes shape when its service is ready")


def _first(found: Found) -> str:
    return found.told[0] if found.told else "the traffic object was changed"


def _by(found: Found) -> str:
    return f" (last changed by {found.hand})" if found.hand else ""


def _log(notice: Notice) -> None:
    structlog.get_logger("phoenix.traffic").warning(notice.message, reason=notice.reason, route=notice.route)
