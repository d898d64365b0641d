"""A release does with the rights of the reference page, and uses every one of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from tests.cluster.deployments import (
    Meddling,
    World,
    a_world,
    another,
    begun,
    release,
    step,
    until,
)
from tests.cluster.plane import ControlPlane

from phoenix_orch.testing.workload_contract import SERVICE
from phoenix_orch.workload.kubernetes import KubernetesWorkload

pytestmark = pytest.mark.anyio

PAGE = Path(__file__).parents[2] / "docs/reference/workload-kubernetes.md"
NAMESPACE = "default"


def documented() -> list[dict[str, Any]]:
    """The rules of the page."""
    block = re.search(r"```yaml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert block is not None
    rules: list[dict[str, Any]] = YAML(typ="safe").load(block[1])
    return rules


def single(rules: Iterable[dict[str, Any]]) -> set[tuple[str, str, str]]:
    """(group, resource, verb)"""
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def used(events: Iterable[dict[str, Any]]) -> set[tuple[str, str, str]]:
    """What the API server was asked for, by its audit log."""
    return {
        (about.get("apiGroup", ""), about["resource"], event["verb"])
        for event in events
        if "resource" in (about := event.get("objectRef", {}))
    }


async def _put_a_service_right(world: World, workload: KubernetesWorkload) -> None:
    await world.kubectl("patch", "service", "shop-canary", "-p", '{"spec": {"sessionAffinity": "ClientIP"}}')

    async def affinity(wanted: str) -> bool:
        found = world.watches.around.service(NAMESPACE, "shop-canary")
        return found is not None and found["spec"]["sessionAffinity"] == wanted

    await until(lambda: affinity("ClientIP"), why="the changed Service")
    await step(lambda: workload.ensure_service(SERVICE, "shop"))
    await until(lambda: affinity("None"), why="the Service as it was made")


async def _ask_about_a_pod_in_trouble(world: World) -> None:
    template = await world.workload.with_images(SERVICE, {"shop": "shop:3"})
    world.kubelet.never_ready.add("shop:3")
    await step(lambda: world.workload.scale(SERVICE, template, 1))

    async def canary_pod() -> Any:
        return (await world.workload.state(SERVICE)).of(template.revision)

    (pod,) = await until(canary_pod, why="a canary pod")
    await world.kubelet.say(pod.name, ready=False, state={"waiting": {"reason": "ErrImageNeverPull"}})

    async def exits() -> Any:
        return (await world.workload.state(SERVICE)).exits

    assert [one.reason for one in await until(exits, why="an exit")] == ["cannot-start"]


async def test_a_release_needs_exactly_the_rights_of_the_page(control_plane: ControlPlane) -> None:
    user = control_plane.service_account(NAMESPACE, "phoenix")
    role: dict[str, Any] = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "phoenix", "namespace": NAMESPACE},
        "rules": documented(),
    }
    binding: dict[str, Any] = {
        **role,
        "kind": "RoleBinding",
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "phoenix"},
        "subjects": [{"kind": "ServiceAccount", "name": "phoenix", "namespace": NAMESPACE}],
    }
    del binding["rules"]
    control_plane.apply(role, binding)
    async with a_world(control_plane, NAMESPACE, user) as world:
        template, expected = await begun(world)
        met = another(world, Meddling(world.client))
        await release(world, met, template, expected)
        await _put_a_service_right(world, met)
        await _ask_about_a_pod_in_trouble(world)
        await step(lambda: world.workload.leave(SERVICE))
    asked = used(control_plane.audit_events(f"system:serviceaccount:{NAMESPACE}:phoenix"))
    assert asked - single(documented()) == set()
    assert single(documented()) - asked == set()
