"""Which router's counters are a Rollout's evidence, where it does not say."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from phoenix_orch.health_validator.sources.prometheus_api import Found, Series
from phoenix_orch.health_validator.sources.prometheus_poller import Answer, Family
from phoenix_orch.health_validator.sources.router_series import (
    EnvoyGateway,
    IngressNginx,
    TraefikGateway,
    TraefikIngress,
)
from phoenix_orch.orchestrator.cluster.declared import Declared, Rollouts
from phoenix_orch.orchestrator.cluster.prometheus import AGAIN, Endpoints

pytestmark = pytest.mark.anyio

NGINX = {"namespace": "shops", "ingress": "web", "service": "web", "canary": ""}
TRAEFIK = {"service": "shops-web-web-80@kubernetesingressnginx"}
ENVOY = {"envoy_cluster_name": "httproute/shops/web/rule/0/backend/0"}


class Counting:
    """A Prometheus that has the series of some routers."""

    def __init__(self) -> None:
        self.series: dict[str, dict[str, str]] = {}
        """Labels by the name of the counter."""
        self.asked = 0

    async def read(self, family: Family, names: Iterable[str], pattern: str) -> Answer:
        self.asked += 1
        found = [self.series[name] for name in names if name in self.series]
        return Answer(Found(tuple(Series(labels, ()) for labels in found), 0.0, ""), {})


class World:
    def __init__(self) -> None:
        self.now = 0.0
        self.counting = Counting()
        self.endpoints = Scripted(self)

    async def router(self, one: Declared) -> type[Any]:
        return type(await self.endpoints.router(one))


class Scripted(Endpoints):
    def __init__(self, world: World) -> None:
        super().__init__({}, clock=lambda: world.now)
        self.poller = world.counting

    def of(self, one: Declared) -> Any:
        return self


def declared(**traffic: Any) -> Declared:
    metadata = {
        "name": "web",
        "namespace": "shops",
        "uid": "1",
        "resourceVersion": "1",
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    return Rollouts(
        [{"metadata": metadata, "spec": {"workload": {"name": "web"}, "traffic": traffic}}]
    ).named("web")


async def test_another_kind_of_route_has_another_router() -> None:
    world = World()
    world.counting.series = {IngressNginx().requests: NGINX}
    assert await world.router(declared(ingress="web")) is IngressNginx
    assert await world.router(declared(httpRoute="web")) is TraefikGateway
    world.counting.series = {EnvoyGateway().requests: ENVOY}
    assert await world.router(declared(httpRoute="web")) is EnvoyGateway


async def test_a_router_that_was_replaced_is_noticed_after_a_minute() -> None:
    world = World()
    one = declared(ingress="web")
    world.counting.series = {IngressNginx().requests: NGINX}
    assert await world.router(one) is IngressNginx
    world.counting.series = {TraefikIngress().requests: TRAEFIK}
    world.now += AGAIN / 2
    before = world.counting.asked
    assert await world.router(one) is IngressNginx
    assert world.counting.asked == before, "what was found is asked for only now and then"
    world.now += AGAIN / 2
    assert await world.router(one) is TraefikIngress


async def test_while_nobody_counts_the_router_that_did_stays() -> None:
    world = World()
    one = declared(ingress="web")
    assert await world.router(one) is TraefikIngress, "the first, while none has counted"
    world.counting.series = {IngressNginx().requests: NGINX}
    assert await world.router(one) is IngressNginx
    world.counting.series = {}
    world.now += AGAIN
    assert await world.router(one) is IngressNginx


async def test_of_two_that_count_the_one_that_was_found_stays() -> None:
    world = World()
    one = declared(ingress="web")
    world.counting.series = {IngressNginx().requests: NGINX}
    assert await world.router(one) is IngressNginx
    world.counting.series[TraefikIngress().requests] = TRAEFIK
    world.now += AGAIN
    assert await world.router(one) is IngressNginx
