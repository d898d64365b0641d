"""A Deployment and its canary as they are now, asked for once, for a command that watches nothing."""

from __future__ import annotations

import asyncio

from phoenix_orch.kernel.errors import NotFound
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.resources import (
    AUTOSCALERS,
    CONFIG_MAPS,
    DEPLOYMENTS,
    DISRUPTION_BUDGETS,
    PODS,
    REPLICA_SETS,
    SECRETS,
    SERVICES,
    Object,
    Resource,
)
from phoenix_orch.workload.deployment.manifest import Manifest, controller, uid_of
from phoenix_orch.workload.deployment.revision import Reference, digested
from phoenix_orch.workload.deployment.scene import Scene, needed
from phoenix_orch.workload.deployment.selectors import Surroundings

_KINDS = {"ConfigMap": CONFIG_MAPS, "Secret": SECRETS}


async def scene_now(client: KubeClient, namespace: str, stable_name: str, canary_name: str) -> Scene:
    """Raises NotFound where there is no stable Deployment, Forbidden with the rule to add, Retryable.

    Of ConfigMaps and Secrets those are read, one by one, that a template refers to; a hash of each value is
    kept and no value.
    """
    stable = await _get(client, DEPLOYMENTS, namespace, stable_name)
    if stable is None:
        raise NotFound(
            f"there is no Deployment {stable_name} in namespace {namespace}",
            remedy="apply it, or name another one in the Rollout",
        )
    canary = await _get(client, DEPLOYMENTS, namespace, canary_name)
    listed = (REPLICA_SETS, PODS, SERVICES, DISRUPTION_BUDGETS, AUTOSCALERS)
    pages = await asyncio.gather(*(client.list(resource, namespace) for resource in listed))
    sets, pods, services, budgets, autoscalers = (page.items for page in pages)
    both = [one for one in (stable, canary) if one is not None]
    own = _owned(sets, both)
    return Scene(
        stable=stable,
        canary=canary,
        replica_sets=own,
        pods=_owned(pods, own),
        around=Surroundings(services, budgets),
        autoscalers=autoscalers,
        contents={one: await _content(client, namespace, one) for one in needed([*both, *own])},
    )


def _owned(found: list[Object], owners: list[Object]) -> list[Object]:
    uids = {uid_of(one) for one in owners}
    return [one for one in found if (controller(one) or {}).get("uid") in uids]


async def _content(client: KubeClient, namespace: str, wanted: Reference) -> Manifest | None:
    found = await _get(client, _KINDS[wanted.kind], namespace, wanted.name)
    return None if found is None else digested(wanted.kind, found)


async def _get(client: KubeClient, resource: Resource, namespace: str, name: str) -> Object | None:
    try:
        return await client.get(resource, name, namespace)
    except NotFound:
        return None
