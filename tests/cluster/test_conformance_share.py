"""Conformance case 29: what users get of a release that Phoenix steers, before a real router."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.cluster import data_plane, gateway_crds, rollouts
from tests.cluster.kubectl import Cluster
from tests.cluster.release_world import CANARY, HOST, NAME, ROUTERS, WALK, RouterKind, World, a_world
from tests.unit.kube_objects import endpoints

from phoenix_orch.kube.resources import ENDPOINT_SLICES, Resource
from phoenix_orch.rollout.status import CommandKind
from phoenix_orch.testing.loopback import named_server

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(400)]

REQUESTS = 300
THROTTLE = "--providers.providersthrottleduration=100ms"
GATEWAYS = Resource("gateway.networking.k8s.io", "v1", "gateways", "Gateway")


@contextlib.asynccontextmanager
async def users_of(world: World, folder: Path) -> AsyncIterator[data_plane.Router]:
    """A Traefik that reads the kind of object that carries the weight, and a server behind each Service."""
    host = data_plane.address()
    async with contextlib.AsyncExitStack() as stack:
        for name in (NAME, CANARY):
            port = await stack.enter_async_context(named_server(name, host=host))
            await world.client.create(ENDPOINT_SLICES, endpoints(name, address=host, port=port))
        if world.router == "ingress":
            metadata = {"name": "nginx"}
            kind = {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": metadata}
            world.cluster.apply({**kind, "spec": {"controller": "k8s.io/ingress-nginx"}})
            provider = "kubernetesingressnginx"
            flags = [f"--providers.{provider}=true", f"--providers.{provider}.httpentrypoint=web"]
            flags.append(f"--providers.{provider}.watchnamespace={world.namespace}")
        else:
            kind = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass"}
            spec = {"controllerName": "traefik.io/gateway-controller"}
            world.cluster.apply({**kind, "metadata": {"name": "traefik"}, "spec": spec})
            provider = "kubernetesgateway"
            flags = [f"--providers.{provider}=true", f"--providers.{provider}.namespaces={world.namespace}"]
        router = stack.enter_context(data_plane.traefik(world.cluster, folder, THROTTLE, *flags))
        if world.router != "ingress":
            entry = {"name": "web", "protocol": "HTTP", "port": router.http}
            gateway = {"gatewayClassName": "traefik", "listeners": [entry]}
            await world.client.create(GATEWAYS, {"metadata": {"name": "gateway"}, "spec": gateway})
        yield router


@pytest.mark.parametrize("kind", ROUTERS)
async def test_29_the_observed_share_is_within_5_percent(
    cluster: Cluster, namespace: str, log_store: str, tmp_path: Path, kind: RouterKind
) -> None:
    """Of every step, and nothing of it is left once the release is aborted."""
    rollouts.define(cluster)
    gateway_crds.install(cluster)
    async with (
        a_world(cluster, namespace, kind, log=log_store, answers=False, serves=()) as world,
        users_of(world, tmp_path) as users,
    ):
        await world.set_up(phases=[{**WALK[0], "duration": "1h"}, {**WALK[1], "every": "1h"}])
        await users.until(HOST, lambda counts: counts == {NAME: 20}, within=60.0)
        await world.release("shop:2")
        for weight in (20, 60):
            await clock_runs(world, weight)
            counts = await users.count(REQUESTS, HOST)
            assert set(counts) == {NAME, CANARY}, counts
            assert counts[CANARY] / REQUESTS == pytest.approx(weight / 100, abs=0.05)
            await world.say(CommandKind.PROMOTE)
        await clock_runs(world, 100)
        assert await users.count(20, HOST) == {CANARY: 20}
        await world.abort()
        await users.until(HOST, lambda counts: counts == {NAME: 20})


async def clock_runs(world: World, weight: int) -> None:
    """Wait until Phoenix has seen the weight on the data plane."""

    async def seen() -> bool:
        status = await world.status()
        return (status["state"], status["weight"]) == ("Progressing", weight) and "stepClock" in status

    await world.until(f"the clock of the step at {weight} %", seen)
