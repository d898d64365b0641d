"""The router of a cluster with the Gateway API: weights of backendRefs in HTTPRoutes and GRPCRoutes.

A route of ours may be spread over several objects (`several.py`).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from phoenix_orch.kernel.errors import BadState, Conflict, Invalid, NotFound
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.resources import HTTP_ROUTES, Object, Resource
from phoenix_orch.traffic import route_plan as plan
from phoenix_orch.traffic.cached_reads import CachedReads, Reads
from phoenix_orch.traffic.kube_record import (
    ABORT,
    ROUTE,
    WEIGHT,
    bears_sign,
    check_route,
    labels_of,
    last_hand,
    latches,
    moment,
    named,
    record_of,
    refusal,
    share_of_canary_service,
)
from phoenix_orch.traffic.kube_router import ATTEMPTS, SETTLED, Found, KubernetesRouter, Tell
from phoenix_orch.traffic.kube_spec import GatewayTraffic
from phoenix_orch.traffic.route_plan import RouteRecord
from phoenix_orch.traffic.router import Group, TrafficState
from phoenix_orch.traffic.several import at_once, in_turn, merged, overtaken

GRPC_ROUTES = Resource("gateway.networking.k8s.io", "v1", "grpcroutes", "GRPCRoute")
_RESOURCES: dict[str, Resource] = {"HTTPRoute": HTTP_ROUTES, "GRPCRoute": GRPC_ROUTES}


@dataclass(frozen=True, slots=True)
class FoundRoutes(Found):
    """The routes of the Gateway API that carry the weights, the lead first."""

    spec: GatewayTraffic | None = None
    carriers: tuple[Object, ...] = ()
    missing: tuple[str, ...] = ()
    """Routes that were declared and do not exist, or are not ours."""


class GatewayRouter(KubernetesRouter[FoundRoutes]):
    """Steers by the weights of backendRefs in one or several routes for each route of ours."""

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
        super().__init__(client, namespace, tell=tell, clock=clock, settled=settled, cached=cached)
        self._specs: dict[str, GatewayTraffic] = {}

    def declare(self, route: str, spec: GatewayTraffic) -> None:
        """Say which routes of the Gateway API a route is about. Idempotent; takes effect with the next
        write. A route that was steered before is found by its mark without that."""
        check_route(route)
        self._specs[route] = spec

    async def release(self, route: str) -> None:
        """The routes are as their owner wants them."""
        found = await self._look(self._client, route, fully=False)
        if found is not None and found.carriers:
            first, *others = [partial(self._give_up, one, route, found.spec) for one in found.carriers]
            await at_once(first, others)
        self._specs.pop(route, None)
        self._latches.pop(route, None)

    async def let_go(self, route: str, name: str) -> None:
        """One HTTPRoute, which `route` is not about any more, is as its owner wants it. Idempotent."""
        with contextlib.suppress(NotFound):
            carrier = await self._client.get(HTTP_ROUTES, name, self._namespace)
            if refusal(carrier, route, claim=False) is None:
                await self._give_up(carrier, route, self._specs.get(route))

    async def _give_up(self, carrier: Object, route: str, spec: GatewayTraffic | None) -> None:
        record = record_of(carrier, RouteRecord, lenient=True)
        if record is None and spec is not None and bears_sign(carrier, route):
            nothing = TrafficState(route=route, stable=Group(revision=""))  # the record was lost
            record = RouteRecord(state=nothing, spec=spec)
        if record is not None:
            await self._give_back(_RESOURCES[carrier["kind"]], carrier, plan.removal(carrier, record))

    async def steered(self) -> tuple[tuple[str, str], ...]:
        """The objects that carry weights of Phoenix's: the route each is marked for, and its name."""
        found: list[Object] = []
        for resource in _RESOURCES.values():
            with contextlib.suppress(NotFound):  # the cluster does not serve that kind
                found += (await self._client.list(resource, self._namespace, labels=WEIGHT)).items
        marks = ((labels_of(one).get(ROUTE), str(one["metadata"]["name"])) for one in found)
        return tuple(sorted((route, name) for route, name in marks if route is not None))

    async def _look(self, reads: Reads, route: str, *, fully: bool) -> FoundRoutes | None:
        carriers, missing = await self._carriers(reads, route)
        records = {_id(one): record_of(one, RouteRecord, lenient=not fully) for one in carriers}
        carriers.sort(key=lambda one: (-_version(records[_id(one)]), _id(one)))
        lead = records[_id(carriers[0])] if carriers else None
        spec = self._specs.get(route) or (lead.spec if lead is not None else None)
        if spec is None or (not carriers and not fully):
            return None
        known = tuple(dict.fromkeys(latch for one in carriers for latch in latches(one)))
        shares = [plan.live_share(one, spec) for one in carriers]
        live, lowest = max(shares, default=0), min(shares, default=0)
        if lead is None:
            return FoundRoutes(
                recorded=None,
                live=live,
                lowest=lowest,
                told=(),
                hand="",
                canary_service=spec.canary,
                latched=known,
                ours=any(bears_sign(one, route) for one in carriers),
                spec=spec,
                carriers=tuple(carriers),
                missing=missing,
            )
        return FoundRoutes(
            recorded=merged(lead.state, known),
            live=live,
            lowest=lowest,
            told=tuple(
                difference for one in carriers for difference in _differences(one, records[_id(one)], lead)
            ),
            outdated=spec != lead.spec,
            hand=max((last_hand(one, reads.manager) for one in carriers), key=moment, default=""),
            canary_service=spec.canary,
            spec=spec,
            carriers=tuple(carriers),
            missing=missing,
        )

    async def _carriers(self, reads: Reads, route: str) -> tuple[list[Object], tuple[str, ...]]:
        """The routes that were declared, else those with our mark; and which of the former are not there."""
        if (spec := self._specs.get(route)) is not None:
            carriers, missing = [], []
            for ref in spec.routes:
                try:
                    found = await reads.get(_RESOURCES[ref.kind], ref.name, self._namespace)
                except NotFound:
                    missing.append(f"{ref.kind} {ref.name!r} does not exist")
                    continue
                if (refused := refusal(found, route, claim=spec.claim)) is not None:
                    missing.append(refused.message)
                else:
                    carriers.append(found)
            return carriers, tuple(missing)
        bearing: list[Object] = []
        for kind, resource in _RESOURCES.items():
            try:
                page = await reads.list(resource, self._namespace, labels=f"{ROUTE}={route}")
            except NotFound:  # the cluster does not serve that kind
                continue
            bearing += [{"kind": kind, **one} for one in page.items]
        return bearing, ()

    async def _store(
        self, client: KubeClient, found: FoundRoutes | None, state: TrafficState, *, raising: bool
    ) -> None:
        """The lead has the word, and the others follow until they obey it or something newer."""
        if found is None or found.spec is None:
            raise NotFound(
                f"nobody has said which routes {state.route!r} is about", remedy="declare them first"
            )
        if found.missing and (raising or found.recorded is None):
            raise BadState("; ".join(found.missing), remedy=f"make it, or label it {ROUTE}={state.route}")
        if not found.carriers:
            raise NotFound("; ".join(found.missing), remedy="make it, or name another one")
        if raising:
            await self._check_endpoints(found.spec.canary)
            if share_of_canary_service(state, found.spec.canary) < 100:
                await self._check_endpoints(found.spec.service)
        strict = raising or found.recorded is None
        first, *others = found.carriers
        followers = [partial(self._follow, client, one, found, state, strict=strict) for one in others]
        if strict:
            changes = self._changes(first, found.spec, state, strict=True)
            await in_turn(partial(self._patch, client, first, changes), followers)
        else:
            await at_once(partial(self._follow, client, first, found, state, leads=True), followers)

    async def _follow(
        self,
        client: KubeClient,
        carrier: Object,
        found: FoundRoutes,
        state: TrafficState,
        *,
        strict: bool = False,
        leads: bool = False,
    ) -> None:
        """Write it whoever touches it meanwhile, as long as nobody writes its traffic."""
        assert found.spec is not None
        known = found.recorded.aborted if found.recorded is not None else found.latched
        for _ in range(ATTEMPTS):
            record = record_of(carrier, RouteRecord, lenient=not strict)
            if record is not None and overtaken(record.state, state, known, leads=leads):
                return
            try:
                changes = self._changes(carrier, found.spec, state, strict=strict)
                await self._patch(client, carrier, changes)
            except Conflict:
                name = carrier["metadata"]["name"]
                carrier = await client.get(_RESOURCES[carrier["kind"]], name, self._namespace)
            else:
                return
        raise Conflict(f"{named(carrier)} changes all the time")

    def _changes(
        self, carrier: Object, spec: GatewayTraffic, state: TrafficState, *, strict: bool
    ) -> dict[str, object]:
        record = record_of(carrier, RouteRecord, lenient=not strict)
        if record is None:
            record = RouteRecord(state=state, spec=spec, marked=ROUTE not in labels_of(carrier))
        record = record.model_copy(update={"state": state, "spec": spec})
        return plan.steered(carrier, record, strict=strict).patch(carrier)

    async def _patch(self, client: KubeClient, carrier: Object, changes: dict[str, object]) -> None:
        await self._put(client, _RESOURCES[carrier["kind"]], carrier, changes)

    async def _rescue(self, client: KubeClient, found: FoundRoutes, revision: str) -> None:
        assert found.spec is not None
        known = tuple(dict.fromkeys((*found.latched, revision)))
        nothing = TrafficState(route="lost", stable=Group(revision=""), aborted=known)
        writes = []
        for carrier in found.carriers:
            record = RouteRecord(state=nothing, spec=found.spec)
            changes = plan.steered(carrier, record, strict=False).patch(carrier)
            changes["metadata"] = {"annotations": {ABORT: " ".join(known)}, "labels": {WEIGHT: "0"}}
            writes.append(partial(self._patch, client, carrier, changes))
        await at_once(writes[0], writes[1:])

    def _canary(self, found: FoundRoutes | None) -> str:
        return found.spec.canary if found is not None and found.spec is not None else ""

    def _vouched(self, found: FoundRoutes) -> bool:
        """Every Gateway has answered for every route as it stands."""
        return not any(plan.untaken(one) for one in found.carriers)

    async def untaken(self, route: str) -> tuple[str, ...]:
        """Why the data plane is not known to obey the routes, for people; empty: it obeys."""
        found = await self._look(self._reads, route, fully=True)
        told = ((one, plan.untaken(one)) for one in (found.carriers if found is not None else ()))
        return tuple(f"{named(one)}: {reason}" for one, reason in told if reason)


def _differences(carrier: Object, record: RouteRecord | None, lead: RouteRecord) -> tuple[str, ...]:
    name = named(carrier)
    if record is None or record.state.version != lead.state.version:
        return (f"{name} does not carry what was written last",)
    try:
        wanted = plan.steered(carrier, record.model_copy(update={"state": lead.state, "spec": lead.spec}))
    except Invalid as error:
        return (error.message,)
    return tuple(f"{name}: {one}" for one in plan.differences(carrier, wanted))


def _id(carrier: Object) -> tuple[str, str]:
    return str(carrier["kind"]), str(carrier["metadata"]["name"])


def _version(record: RouteRecord | None) -> int:
    return record.state.version if record is not None else 0
