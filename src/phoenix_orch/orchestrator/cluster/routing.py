"""The router of each route: Ingresses and routes of the Gateway API side by side."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterable

from phoenix_orch.kernel.errors import Invalid, NotFound
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.resources import ROLLOUTS
from phoenix_orch.orchestrator.cluster.declared import Carrier, Declared, Rollouts
from phoenix_orch.traffic.cached_reads import CachedReads
from phoenix_orch.traffic.gateway_api import GatewayRouter
from phoenix_orch.traffic.kube_router import SETTLED
from phoenix_orch.traffic.kube_spec import Chosen, GatewayTraffic, IngressTraffic, Owner, RouteRef
from phoenix_orch.traffic.nginx_ingress import NginxIngressRouter
from phoenix_orch.traffic.router import TrafficSeen, TrafficState

Router = NginxIngressRouter | GatewayRouter


class ClusterRouter:
    """A TrafficRouter of one namespace. A route whose Rollout is gone is found by its mark."""

    def __init__(
        self,
        client: KubeClient,
        namespace: str,
        rollouts: Rollouts,
        *,
        cached: CachedReads | None = None,
        settled: float = SETTLED,
    ) -> None:
        """`cached`, `settled`: as of a KubernetesRouter."""
        self._rollouts = rollouts
        self._ingress = NginxIngressRouter(client, namespace, cached=cached, settled=settled)
        self._gateway = GatewayRouter(client, namespace, cached=cached, settled=settled)

    async def read(self, route: str) -> TrafficState:
        return await self._of(route).read(route)

    async def write(self, wanted: TrafficState) -> TrafficState:
        return await self._of(wanted.route).write(wanted)

    async def abort(self, route: str, revision: str) -> TrafficState:
        """Needs no Rollout: an object that bears the route's mark is enough (R2)."""
        return await self._wherever(route, lambda router: router.abort(route, revision))

    async def release(self, carrier: Carrier) -> None:
        """Stop steering what no Rollout names any more: all its traffic goes to stable. Idempotent."""
        if (carrier.kind, carrier.route) in _routes(self._rollouts.carriers()):
            # The route is steered on. Of an Ingress too many its router lets go by itself, with every write.
            if carrier.kind == "HTTPRoute":
                await self._gateway.let_go(carrier.route, carrier.name)
            return
        router: Router = self._ingress if carrier.kind == "Ingress" else self._gateway
        await router.release(carrier.route)

    async def forsaken(self) -> tuple[Carrier, ...]:
        """What is steered and no Rollout names."""
        named = self._rollouts.carriers()
        routes = _routes(named)
        ingresses = [Carrier("Ingress", route, route) for route in await self._ingress.steered()]
        http_routes = [Carrier("HTTPRoute", route, name) for route, name in await self._gateway.steered()]
        left = [one for one in ingresses if (one.kind, one.route) not in routes]
        return (*left, *(one for one in http_routes if one not in named))

    async def clear_latch(self, route: str, revision: str) -> TrafficState:
        return await self._wherever(route, lambda router: router.clear_latch(route, revision))

    async def observe(self, route: str) -> TrafficSeen:
        try:
            return await self._of(route).observe(route)
        except Invalid:
            return TrafficSeen(weight=None)

    def _of(self, route: str) -> Router:
        """The router of a declared route, which knows it. Raises NotFound, and Invalid for what it cannot."""
        one = self._rollouts.of_route(route)
        if one.spec.traffic.ingress is not None:
            self._ingress.declare(route, ingress_traffic(one))
            return self._ingress
        self._gateway.declare(route, gateway_traffic(one))
        return self._gateway

    async def _wherever(self, route: str, call: Callable[[Router], Awaitable[TrafficState]]) -> TrafficState:
        """By the router that the Rollout names; where that finds nothing, by the mark, with the other one."""
        first: Router = self._ingress
        with contextlib.suppress(NotFound):  # no Rollout names the route
            first = self._of(route)
        try:
            return await call(first)
        except NotFound:
            other: Router = self._gateway if first is self._ingress else self._ingress
            return await call(other)


def _routes(carriers: Iterable[Carrier]) -> set[tuple[str, str]]:
    """Kind and route of each."""
    return {(one.kind, one.route) for one in carriers}


def ingress_traffic(one: Declared) -> IngressTraffic:
    traffic = one.spec.traffic
    return IngressTraffic(
        ingress=traffic.ingress or "",
        additional=traffic.additional,
        service=one.spec.service,
        canary_service=one.spec.canary_service,
        weight_total=traffic.weight_total or 100,
        chosen=Chosen.model_validate(traffic.canary_by.model_dump()) if traffic.canary_by else Chosen(),
        owner=Owner(api_version=ROLLOUTS.api_version, kind=ROLLOUTS.kind, name=one.name, uid=one.uid),
    )


def gateway_traffic(one: Declared) -> GatewayTraffic:
    traffic = one.spec.traffic
    return GatewayTraffic(
        routes=tuple(RouteRef(name=name) for name in (traffic.http_route or "", *traffic.additional)),
        service=one.spec.service,
        canary_service=one.spec.canary_service,
    )
