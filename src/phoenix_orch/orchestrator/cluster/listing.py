"""Names of the Rollouts of a namespace, by the rights of whoever asks."""

from __future__ import annotations

import asyncio

from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.config import load
from phoenix_orch.kube.resources import ROLLOUTS
from phoenix_orch.orchestrator.cluster.access import Access


def names(access: Access, *, within: float) -> list[str]:
    """Sorted. Raises PhoenixError, and TimeoutError when that takes longer than `within` seconds."""
    return asyncio.run(_names(access, within))


async def _names(access: Access, within: float) -> list[str]:
    target = load(access.kubeconfig, context=access.context, namespace=access.namespace)
    async with asyncio.timeout(within), KubeClient(target, component="person") as client:
        found = (await client.list(ROLLOUTS)).items
    return sorted(str(one["metadata"]["name"]) for one in found)
