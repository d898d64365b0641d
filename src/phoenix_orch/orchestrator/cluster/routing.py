"""The router of each route: Ingresses and routes of the Gateway API side by side."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from phoenix_orch.kernel.errors import Invalid, NotFound
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.resources import ROLLOUTS
from phoenix_orch.orchestrator.cluster.declared import Declared, Rollouts
from phoenix_orch.traffic.cached_reads import CachedReads
from phoenix_orch.traffic.gateway_api import GatewayRouter
from phoenix_orch.traffic.kube_router import SETTLED
from phoenix_orch.traffic.kube_spec import GatewayTraffic, IngressTraffic, Owner, RouteRef
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
        self._last: dict[str, Router] = {}

    async def read(self, route: str) -> TrafficState:
        return await self._of(route).read(route)

    async def write(self, wanted: TrafficState) -> TrafficState:
        return await self._of(wanted.route).write(wanted)

    async def abort(self, route: str, revision: str) -> TrafficState:
        """Needs no Rollout: an object that bears the route's mark is enough (R2)."""
        return await self._wherever(route, lambda router: router.abort(route, revision))

    async def release(self, route: str) -> None:
        """Stop steering, by the router that the route had last: all traffic goes to stable. Idempotent."""
        await self._last.get(route, self._ingress).release(route)
        self._last.pop(route, None)

    async def forsaken(self) -> tuple[str, ...]:
        """Routes that are steered and that no Rollout names."""
        steered = {*await self._ingress.steered(), *await self._gateway.steered()}
        return tuple(sorted(steered - self._rollouts.routes()))

    async def forsake(self, route: str) -> None:
        """Stop steering a route that no Rollout names, whatever carries its weight. Idempotent."""
        await self._ingress.release(route)
        await self._gateway.release(route)

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
            self._last[route] = self._ingress
        else:
            self._gateway.declare(route, gateway_traffic(one))
            self._last[route] = self._gateway
        return self._last[route]

    async def _wherever(self, route: str, call: Callable[[Router], Awaitable[TrafficState]]) -> TrafficState:
        """By the router that the Rollout names; where that finds nothing, by the mark, with the other one."""
        named = self._of(route)
        try:
            return await call(named)
        except NotFound:
            other: Router = self._gateway if named is self._ingress else self._ingress
            return await call(other)


def ingress_traffic(one: Declared) -> IngressTraffic:
    traffic = one.spec.traffic
    return IngressTraffic(
        ingress=traffic.ingress or "",
        additional=traffic.additional,
        service=one.spec.service,
        canary_service=one.spec.canary_service,
        owner=Owner(api_version=ROLLOUTS.api_version, kind=ROLLOUTS.kind, name=one.name, uid=one.uid),
    )


def gateway_traffic(one: Declared) -> GatewayTraffic:
    traffic = one.spec.traffic
    return GatewayTraffic(
        routes=tuple(RouteRef(name=name) for name in (traffic.http_route or "", *traffic.additional)),
        service=one.spec.service,
        canary_service=one.spec.canary_service,
    )
