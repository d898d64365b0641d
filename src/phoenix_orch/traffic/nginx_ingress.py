"""The router of a cluster whose ingress controller reads NGINX's canary annotations.

The main Ingress is only read. A second one beside it carries weight, latch and record, so that they
change in one write, and removing it leaves everything as it was. A route may have several of both.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial

import structlog

from phoenix_orch.kernel.errors import Conflict, Invalid, NotFound, PhoenixError
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.resources import INGRESSES, Object
from phoenix_orch.traffic import ingress_plan as plan
from phoenix_orch.traffic.cached_reads import CachedReads, Reads
from phoenix_orch.traffic.ingress_parts import Part, Write, differences, led, no_main, renewed, write_of
from phoenix_orch.traffic.ingress_plan import IngressRecord
from phoenix_orch.traffic.kube_record import (
    ROUTE,
    WEIGHT,
    bears_sign,
    check_route,
    last_hand,
    latches,
    marked,
    moment,
    record_of,
    refusal,
)
from phoenix_orch.traffic.kube_router import ATTEMPTS, SETTLED, Found, KubernetesRouter, Tell
from phoenix_orch.traffic.kube_spec import IngressTraffic
from phoenix_orch.traffic.router import Group, TrafficState
from phoenix_orch.traffic.several import at_once, in_turn, merged, overtaken


@dataclass(frozen=True, slots=True)
class FoundIngress(Found):
    """Canary Ingresses and what they belong to."""

    spec: IngressTraffic | None = None
    """What was declared, or recorded."""
    parts: tuple[Part, ...] = ()
    """The lead first."""
    strays: tuple[Part, ...] = ()
    """Those whose main Ingress is named no more."""
    known: IngressRecord | None = None
    """The lead's."""

    @property
    def carriers(self) -> list[Part]:
        """Whatever may carry weight."""
        return [part for part in (*self.parts, *self.strays) if part.carrier is not None]


class NginxIngressRouter(KubernetesRouter[FoundIngress]):
    """Steers by the annotations `nginx.ingress.kubernetes.io/canary…` of an Ingress for each route."""

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
        self._specs: dict[str, IngressTraffic] = {}

    def declare(self, route: str, spec: IngressTraffic) -> None:
        """Say which Ingresses the route is about. Idempotent; takes effect with the next write.

        A route that was steered before is found by its mark without that.
        """
        check_route(route)
        self._specs[route] = spec

    async def release(self, route: str) -> None:
        """Canary Ingresses that Phoenix made are deleted, those that were taken over stay with weight 0."""
        found = await self._look(self._client, route, fully=False)
        if found is not None and found.carriers:
            first, *others = [partial(self._give_up, part, route, found.spec) for part in found.carriers]
            await at_once(first, others)
        self._specs.pop(route, None)
        self._latches.pop(route, None)

    async def _give_up(self, part: Part, route: str, spec: IngressTraffic | None) -> None:
        """Leave one canary Ingress without traffic and without a sign of Phoenix."""
        carrier, record = part.carrier, part.record
        if carrier is None:
            return
        if record is None and spec is not None and bears_sign(carrier, route):
            nothing = TrafficState(route=route, stable=Group(revision=""))  # the record was lost
            record = plan.adopted(nothing, spec, "", carrier).model_copy(update={"marked": True})
        if record is None:
            return
        metadata, changes = carrier["metadata"], plan.removal(carrier, record)
        if changes is not None:
            await self._give_back(INGRESSES, carrier, changes)
            return
        with contextlib.suppress(NotFound):  # it went with its owner meanwhile
            await self._client.delete(
                INGRESSES,
                metadata["name"],
                self._namespace,
                uid=metadata["uid"],
                version=metadata["resourceVersion"],
            )

    async def steered(self) -> tuple[str, ...]:
        """Routes of the Ingresses that carry a weight of Phoenix's."""
        return marked((await self._client.list(INGRESSES, self._namespace, labels=WEIGHT)).items)

    async def _look(self, reads: Reads, route: str, *, fully: bool) -> FoundIngress | None:
        declared = self._specs.get(route)
        carriers = await self._carriers(reads, route, declared)
        records = {name: record_of(one, IngressRecord, lenient=not fully) for name, one in carriers.items()}
        lead = max((one for one in records.values() if one), key=_version, default=None)
        spec = declared or (lead.spec if lead is not None else None)
        if not carriers and (spec is None or not fully):
            return None
        mains = spec.mains if spec is not None else {}
        names = {name: mains.get(name, "") for name in (mains if declared else (*mains, *carriers))}
        found = await self._mains(reads, names.values()) if fully else {}
        parts = led(
            Part(name, main, carriers.get(name), found.get(main), records.get(name))
            for name, main in names.items()
        )
        strays = await self._strays(reads, lead, names) if declared and lead is not None else ()
        return _found(route, spec, parts, strays, lead, manager=reads.manager)

    async def _carriers(self, reads: Reads, route: str, declared: IngressTraffic | None) -> dict[str, Object]:
        """The canary Ingresses by their names where those are known, else by their mark."""
        if declared is not None:
            names = list(declared.mains)
            found = await asyncio.gather(*(self._get(reads, name) for name in names))
            ours = {
                name: one
                for name, one in zip(names, found, strict=True)
                if one is not None and refusal(one, route, claim=declared.claim) is None
            }
            if ours:
                return ours
        bearing = await reads.list(INGRESSES, self._namespace, labels=f"{ROUTE}={route}")
        marked = [{"kind": "Ingress", **one} for one in bearing.items if plan.is_carrier(one)]
        if declared is None or len(declared.mains) > 1:
            return {str(one["metadata"]["name"]): one for one in marked}
        if len(marked) > 1:
            told = ", ".join(str(one["metadata"]["name"]) for one in marked)
            raise Invalid(
                f"several Ingresses bear the mark of route {route!r}: {told}",
                remedy=f"take the label {ROUTE} from all but one",
            )
        return {declared.carrier: marked[0]} if marked else {}

    async def _mains(self, reads: Reads, names: Iterable[str]) -> dict[str, Object]:
        wanted = [name for name in names if name]
        found = await asyncio.gather(*(self._get(reads, name) for name in wanted))
        return {name: one for name, one in zip(wanted, found, strict=True) if one is not None}

    async def _strays(self, reads: Reads, lead: IngressRecord, names: Collection[str]) -> tuple[Part, ...]:
        """What was steered for the route and is named no more."""
        given_up = [name for name in dict.fromkeys((*lead.spec.mains, *lead.left)) if name not in names]
        found = await asyncio.gather(*(self._get(reads, name) for name in given_up))
        route = lead.state.route
        return tuple(
            Part(name, "", one, None, record_of(one, IngressRecord, lenient=True))
            for name, one in zip(given_up, found, strict=True)
            if one is not None and bears_sign(one, route) and refusal(one, route, claim=False) is None
        )

    async def _get(self, reads: Reads, name: str) -> Object | None:
        try:
            return await reads.get(INGRESSES, name, self._namespace)
        except NotFound:
            return None

    async def _store(
        self, client: KubeClient, found: FoundIngress | None, state: TrafficState, *, raising: bool
    ) -> None:
        if found is None or found.spec is None:
            raise NotFound(
                f"nobody has said which Ingress route {state.route!r} is about", remedy="declare it first"
            )
        urgent = client is not self._client
        left = tuple(one.name for one in found.strays) if urgent else await self._without_strays(found, state)
        strict = raising or found.recorded is None
        planned = [
            write_of(part, found.spec, state, known=found.known, left=left, strict=strict)
            for part in found.parts
        ]
        writes = [one for one in planned if one is not None]
        if not writes:
            raise no_main(found.spec.ingress)
        for one in writes:
            more = raising and one.raises
            if one.part.main is not None and (more or one.part.record is None):
                await self._check(one, raising=more)
            if one.part.carrier is None:
                await self._check_free(one, state.route)
        first, *others = writes
        followers = [partial(self._follow, client, one, found, state, left) for one in others]
        if strict:
            await in_turn(partial(self._write, client, first), followers)
        else:
            lead = partial(self._follow, client, first, found, state, left, leads=True)
            strays = [
                partial(self._put, client, INGRESSES, one.carrier, plan.emergency(" ".join(state.aborted)))
                for one in found.strays
                if urgent and one.carrier is not None and one.share > 0
            ]
            await at_once(lead, [*followers, *strays])

    async def _without_strays(self, found: FoundIngress, state: TrafficState) -> tuple[str, ...]:
        """Names of those that could not be given up. An abort has no time for that, and only takes their
        traffic."""
        left = []
        for stray in found.strays:
            try:
                await self._give_up(stray, state.route, found.spec)
            except PhoenixError as error:
                structlog.get_logger("phoenix.traffic").warning(str(error), route=state.route)
                left.append(stray.name)
        return tuple(left)

    async def _check_free(self, one: Write, route: str) -> None:
        """Raises BadState where somebody else's Ingress has the name."""
        found, claim = await self._get(self._client, one.part.name), one.record.spec.claim
        if found is not None and (refused := refusal(found, route, claim=claim)) is not None:
            raise refused

    async def _write(self, client: KubeClient, one: Write) -> None:
        """Raises Conflict."""
        if one.part.carrier is not None:
            await self._put(client, INGRESSES, one.part.carrier, one.expected.patch(one.part.carrier))
            return
        new = one.expected.new(self._namespace, one.part.name)
        self._note(INGRESSES, await self._client.create(INGRESSES, new, self._namespace))

    async def _follow(
        self,
        client: KubeClient,
        one: Write,
        found: FoundIngress,
        state: TrafficState,
        left: tuple[str, ...],
        *,
        leads: bool = False,
    ) -> None:
        """Write it whoever touches it meanwhile, as long as nobody writes its traffic."""
        assert found.spec is not None
        known = found.recorded.aborted if found.recorded is not None else found.latched
        write: Write | None = one
        for _ in range(ATTEMPTS):
            if write is None:
                return
            part = write.part
            if part.record is not None and overtaken(part.record.state, state, known, leads=leads):
                return
            try:
                await self._write(client, write)
            except Conflict:
                name = part.carrier["metadata"]["name"] if part.carrier is not None else part.name
                carrier = await self._get(client, name)
                record = record_of(carrier, IngressRecord, lenient=True) if carrier is not None else None
                part = renewed(part, carrier, record)
                write = write_of(part, found.spec, state, known=found.known, left=left, strict=False)
            else:
                return
        raise Conflict(f"Ingress {one.part.name!r} changes all the time")

    async def _check(self, one: Write, *, raising: bool) -> None:
        """Raises BadState for what the router would not do, or users would suffer from."""
        main, carrier, record = one.part.main, one.part.carrier, one.record
        assert main is not None
        name = carrier["metadata"]["name"] if carrier is not None else one.part.name
        rivals = plan.rivals(record, one.expected)
        if self._cached is not None:
            others = await self._cached.having(INGRESSES, rivals, plan.rivalry, self._namespace)
        else:
            others = (await self._client.list(INGRESSES, self._namespace)).items
        listed = ({"kind": "Ingress", **each} for each in others)
        if (refused := plan.conflict(main, name, record, one.expected, listed)) is not None:
            raise refused
        if raising:
            await self._check_endpoints(plan.stable_service(main, record.spec))

    async def _rescue(self, client: KubeClient, found: FoundIngress, revision: str) -> None:
        known = tuple(dict.fromkeys((*found.latched, revision)))
        first, *others = [
            partial(self._put, client, INGRESSES, part.carrier, plan.emergency(" ".join(known)))
            for part in found.carriers
            if part.carrier is not None
        ]
        await at_once(first, others)

    def _canary(self, found: FoundIngress | None) -> str:
        part = next((one for one in found.parts if one.main is not None), None) if found is not None else None
        if found is None or found.spec is None or part is None or part.main is None:
            return found.canary_service if found is not None else ""
        return plan.canary_service(found.spec, plan.stable_service(part.main, found.spec))

    def _vouched(self, found: FoundIngress) -> bool:
        """An Ingress has no status that tells what the controller obeys. Without its main one it is a 404, so
        that a canary without a share gets nothing for certain."""
        return all(part.main is not None or part.share == 0 for part in found.parts)


def _found(
    route: str,
    spec: IngressTraffic | None,
    parts: list[Part],
    strays: tuple[Part, ...],
    lead: IngressRecord | None,
    *,
    manager: str,
) -> FoundIngress:
    carriers = [(part, part.carrier) for part in (*parts, *strays) if part.carrier is not None]
    known = tuple(dict.fromkeys(latch for _, carrier in carriers for latch in latches(carrier)))
    live = max((part.share for part, _ in carriers), default=0)
    there = [part for part in parts if part.carrier is not None or part.main is not None]
    lowest = min((part.share for part in there), default=0)
    if lead is None:
        return FoundIngress(
            recorded=None,
            live=live,
            lowest=lowest,
            told=(),
            hand="",
            canary_service="",
            latched=known,
            ours=any(bears_sign(carrier, route) for _, carrier in carriers),
            spec=spec,
            parts=tuple(parts),
        )
    return FoundIngress(
        recorded=merged(lead.state, known),
        live=live,
        lowest=lowest,
        told=tuple(one for part in parts for one in differences(part, lead, alone=len(parts) == 1)),
        outdated=spec != lead.spec or bool(lead.left),
        hand=max((last_hand(carrier, manager) for _, carrier in carriers), key=moment, default=""),
        canary_service=lead.canary_service,
        spec=spec,
        parts=tuple(parts),
        strays=strays,
        known=lead,
    )


def _version(record: IngressRecord) -> int:
    return record.state.version
