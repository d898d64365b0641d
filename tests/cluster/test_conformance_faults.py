"""Conformance cases 22 and 24 to 26: races, restarts, conflicts, and a promotion that cannot get through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.cluster import gateway_crds, rollouts
from tests.cluster.conformance import INGRESS, both_routers, promoted
from tests.cluster.kubectl import Cluster
from tests.cluster.release_world import CANARY, NAME, World, a_world

from phoenix_orch.kube.config import Target, load
from phoenix_orch.kube.resources import DEPLOYMENTS, INGRESSES, REPLICA_SETS, SERVICES
from phoenix_orch.testing.api_faults import WRITES, Answer, Reset
from phoenix_orch.testing.faulty_api_server import FaultyApiServer

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(400)]


@pytest.fixture
async def faulty(cluster: Cluster, namespace: str) -> AsyncIterator[FaultyApiServer]:
    """The API server as Phoenix reaches it in `hindered`; users and controllers reach the real one."""
    async with FaultyApiServer(load(cluster.kubeconfig, namespace=namespace)) as server:
        yield server


@pytest.fixture
async def hindered(
    request: pytest.FixtureRequest, cluster: Cluster, namespace: str, log_store: str, faulty: FaultyApiServer
) -> AsyncIterator[World]:
    rollouts.define(cluster)
    gateway_crds.install(cluster)

    def through(_: Target) -> Target:
        return faulty.target

    async with a_world(cluster, namespace, request.param, log=log_store, target=through) as made:
        yield made


both_hindered = pytest.mark.parametrize("hindered", [INGRESS, "httpRoute"], indirect=True)


@both_hindered
async def test_22_what_exists_already_is_looked_at_again(hindered: World, faulty: FaultyApiServer) -> None:
    """A create is done and its answer lost, so that the next attempt meets what the first one made."""
    kinds = ["services", *(["ingresses"] if hindered.router == INGRESS else [])]
    lost = [faulty.inject(Reset(done=True), verb="create", resource=kind) for kind in kinds]
    await hindered.set_up()
    await hindered.release("shop:2")
    await promoted(hindered, "shop:2")
    assert all(rule.hits == 1 for rule in lost)
    assert all(faulty.count("create", kind) > 1 for kind in kinds)
    names = [one["metadata"]["name"] for one in (await hindered.client.list(SERVICES)).items]
    assert sorted(names) == [NAME, CANARY]
    if hindered.router == INGRESS:
        names = [one["metadata"]["name"] for one in (await hindered.client.list(INGRESSES)).items]
        assert sorted(names) == [NAME, CANARY]


@both_routers
async def test_24_a_stable_that_fails_in_the_promotion_leaves_the_canary_serving(world: World) -> None:
    """Its new pods do not get ready; the old ones and the canary's serve on, until it can be mended."""
    await world.set_up()
    await world.release("shop:2")
    await world.weight(100)
    world.kubelet.never_ready.add("shop:2")
    await world.state("Promoting")
    await world.until("stable has a new pod", lambda: _has_new_pods(world))
    await world.questions(20)
    assert (await world.status())["state"] == "Promoting"
    assert world.plane.weights == [0, 20, 60, 100]
    assert (await world.get(DEPLOYMENTS, CANARY))["status"]["readyReplicas"] == 2
    assert (await world.get(DEPLOYMENTS, NAME))["status"]["readyReplicas"] == 2
    world.kubelet.never_ready.clear()
    await promoted(world, "shop:2")


async def _has_new_pods(world: World) -> bool:
    """Of stable, in the version that is promoted."""
    for found in (await world.client.list(REPLICA_SETS)).items:
        owner, spec = found["metadata"]["ownerReferences"][0]["name"], found["spec"]["template"]["spec"]
        if owner == NAME and spec["containers"][0]["image"] == "shop:2":
            return bool(found.get("status", {}).get("replicas", 0) > 0)
    return False


@both_routers
async def test_25_a_restart_at_every_step_boundary_leads_to_the_same_end(world: World) -> None:
    await world.set_up()
    await world.release("shop:2")
    seen: list[tuple[str, int]] = []
    while (place := await _place(world))[0] != "Promoted":
        if place not in seen:
            seen.append(place)
            await world.phoenix.stop()
            await world.phoenix.start()
        else:
            await asyncio.sleep(0.05)
    await promoted(world, "shop:2")
    assert {("Starting", 0), ("Progressing", 0), ("Progressing", 1), ("Progressing", 2)} <= set(seen)
    assert {"Promoting", "Baking"} & {state for state, _ in seen}
    assert world.plane.weights == [0, 20, 60, 100, 0]
    history = await world.log.history(NAME)
    assert [one.outcome.value for one in history] == ["promoted"]


async def _place(world: World) -> tuple[str, int]:
    status = await world.status()
    return status["state"], status.get("step", 0)


@both_hindered
async def test_26_a_conflict_on_every_write(hindered: World, faulty: FaultyApiServer) -> None:
    """The first two writes of each kind are refused, and a third of all later ones."""
    conflict = Answer(409, "Conflict")
    kinds = {
        ("update", "rollouts"),
        ("patch", "deployments"),
        ("create", "services"),
        ("patch", "ingresses" if hindered.router == INGRESS else "httproutes"),
        *((("create", "ingresses"),) if hindered.router == INGRESS else ()),
    }
    rules = [faulty.inject(conflict, verb=verb, resource=kind, times=2) for verb, kind in sorted(kinds)]
    rest = faulty.inject(conflict, verb=WRITES, times=10_000, share=1 / 3)
    await hindered.set_up()
    await hindered.release("shop:2")
    await promoted(hindered, "shop:2")
    assert all(rule.hits == 2 for rule in rules)
    assert rest.hits > 0
    written = {(asked.verb, asked.resource) for asked in faulty.asked if asked.verb in WRITES}
    assert written - kinds <= {("delete", "services")}
    assert hindered.plane.weights == [0, 20, 60, 100, 0]
