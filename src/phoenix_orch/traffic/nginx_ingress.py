"""The router of a cluster whose ingress controller reads NGINX's canary annotations.

The main Ingress is only read. A second one beside it carries weight, latch and record, so that they
change in one write, and removing it leaves everything as it was.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from phoenix_orch.kernel.errors import Invalid, NotFound
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.resources import INGRESSES, Object
from phoenix_orch.traffic import ingress_plan as plan
from phoenix_orch.traffic.cached_reads import CachedReads, Reads
from phoenix_orch.traffic.ingress_plan import IngressRecord
from phoenix_orch.traffic.kube_record import (
    ROUTE,
    WEIGHT,
    bears_sign,
    check_route,
    last_hand,
    latches,
    marked,
    record_of,
    refusal,
)
from phoenix_orch.traffic.kube_router import SETTLED, Found, KubernetesRouter, Tell
from phoenix_orch.traffic.kube_spec import IngressTraffic
from phoenix_orch.traffic.router import Group, TrafficState


@dataclass(frozen=True, slots=True)
class FoundIngress(Found):
    """A canary Ingress and what it belongs to."""

    spec: IngressTraffic | None = None
    """What was declared, or recorded."""
    carrier: Object | None = None
    """None: it does not exist."""
    main: Object | None = None
    """None: it does not exist, or was not asked for."""
    record: IngressRecord | None = None


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
        """Say which Ingress the route is about. Idempotent; takes effect with the next write.

        A route that was steered before is found by its mark without that.
        """
        check_route(route)
        self._specs[route] = spec

    async def release(self, route: str) -> None:
        """A canary Ingress that Phoenix made is deleted, one that was taken over stays with weight 0."""
        found = await self._look(self._client, route, fully=False)
        record = found.record if found is not None else None
        if found is not None and found.ours and found.spec is not None and record is None:
            nothing = TrafficState(route=route, stable=Group(revision=""))  # the record was lost
            record = plan.adopted(nothing, found.spec, "", found.carrier)
            record = record.model_copy(update={"marked": True})
        if found is not None and found.carrier is not None and record is not None:
            carrier, metadata = found.carrier, found.carrier["metadata"]
            changes = plan.removal(carrier, record)
            if changes is not None:
                await self._give_back(INGRESSES, carrier, changes)
            else:
                with contextlib.suppress(NotFound):  # it went with its owner meanwhile
                    await self._client.delete(
                        INGRESSES,
                        metadata["name"],
                        self._namespace,
                        uid=metadata["uid"],
                        version=metadata["resourceVersion"],
                    )
        self._specs.pop(route, None)
        self._latches.pop(route, None)

    async def steered(self) -> tuple[str, ...]:
        """Routes of the Ingresses that carry a weight of Phoenix's."""
        return marked((await self._client.list(INGRESSES, self._namespace, labels=WEIGHT)).items)

    async def _look(self, reads: Reads, route: str, *, fully: bool) -> FoundIngress | None:
        carrier = await self._carrier(reads, route)
        record = record_of(carrier, IngressRecord, lenient=not fully) if carrier is not None else None
        spec = self._specs.get(route) or (record.spec if record is not None else None)
        if carrier is None and (spec is None or not fully):
            return None
        main = await self._get(reads, spec.ingress) if spec is not None and fully else None
        if carrier is None:
            return FoundIngress(None, 0, (), "", "", ours=False, spec=spec, main=main)
        live = plan.live_share(carrier)
        if record is None:
            known = latches(carrier)
            ours = bears_sign(carrier, route)
            return FoundIngress(None, live, (), "", "", known, ours, spec=spec, carrier=carrier, main=main)
        return FoundIngress(
            recorded=record.state,
            live=live,
            told=plan.differences(carrier, plan.wanted(main, carrier, record)),
            outdated=spec != record.spec,
            hand=last_hand(carrier, reads.manager),
            canary_service=record.canary_service,
            spec=spec,
            carrier=carrier,
            main=main,
            record=record,
        )

    async def _carrier(self, reads: Reads, route: str) -> Object | None:
        """The canary Ingress by its name where that is known, else by its mark."""
        if (spec := self._specs.get(route)) is not None:
            found = await self._get(reads, spec.carrier)
            if found is not None and refusal(found, route, claim=spec.claim) is None:
                return found
        bearing = await reads.list(INGRESSES, self._namespace, labels=f"{ROUTE}={route}")
        carriers = [one for one in bearing.items if plan.is_carrier(one)]
        if len(carriers) > 1:
            names = ", ".join(str(one["metadata"]["name"]) for one in carriers)
            raise Invalid(
                f"several Ingresses bear the mark of route {route!r}: {names}",
                remedy=f"take the label {ROUTE} from all but one",
            )
        return {"kind": "Ingress", **carriers[0]} if carriers else None

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
        record = self._record(found, state)
        expected = plan.wanted(found.main, found.carrier, record)
        if found.main is not None and (raising or found.record is None):
            await self._check(found.main, expected, record, raising=raising)
        elif found.main is None and raising:
            raise _no_main(found.spec)
        if found.carrier is None:
            if expected.spec is None:
                raise _no_main(found.spec)
            await self._make(found.spec, state.route, expected)
        else:
            await self._put(client, INGRESSES, found.carrier, expected.patch(found.carrier))

    def _record(self, found: FoundIngress, state: TrafficState) -> IngressRecord:
        assert found.spec is not None
        record, spec = found.record, found.spec
        if found.main is not None:
            canary = plan.canary_service(spec, plan.stable_service(found.main, spec))
        elif record is not None:
            canary, spec = record.canary_service, record.spec
        else:
            raise _no_main(spec)
        if record is None:
            return plan.adopted(state, spec, canary, found.carrier)
        return record.model_copy(update={"state": state, "spec": spec, "canary_service": canary})

    async def _check(
        self, main: Object, expected: plan.Wanted, record: IngressRecord, *, raising: bool
    ) -> None:
        """Raises BadState for what the router would not do, or users would suffer from."""
        rivals = plan.rivals(record, expected)
        if self._cached is not None:
            others = await self._cached.having(INGRESSES, rivals, plan.rivalry, self._namespace)
        else:
            others = (await self._client.list(INGRESSES, self._namespace)).items
        listed = ({"kind": "Ingress", **one} for one in others)
        if (refused := plan.conflict(main, record, expected, listed)) is not None:
            raise refused
        if raising:
            await self._check_endpoints(plan.stable_service(main, record.spec))

    async def _make(self, spec: IngressTraffic, route: str, expected: plan.Wanted) -> None:
        existing = await self._get(self._client, spec.carrier)
        if existing is not None and (refused := refusal(existing, route, claim=spec.claim)) is not None:
            raise refused
        new = expected.new(self._namespace, spec.carrier)
        self._note(INGRESSES, await self._client.create(INGRESSES, new, self._namespace))

    async def _rescue(self, client: KubeClient, found: FoundIngress, revision: str) -> None:
        assert found.carrier is not None
        known = tuple(dict.fromkeys((*latches(found.carrier), revision)))
        await self._put(client, INGRESSES, found.carrier, plan.emergency(" ".join(known)))

    def _canary(self, found: FoundIngress | None) -> str:
        if found is None or found.spec is None or found.main is None:
            return found.canary_service if found is not None else ""
        return plan.canary_service(found.spec, plan.stable_service(found.main, found.spec))

    def _vouched(self, found: FoundIngress) -> bool:
        """An Ingress has no status that tells what the controller obeys. Without its main one it is a 404, so
        that a canary without a share gets nothing for certain."""
        return found.main is not None or found.live == 0


def _no_main(spec: IngressTraffic) -> NotFound:
    return NotFound(f"Ingress {spec.ingress!r} does not exist", remedy="make it, or name another one")
