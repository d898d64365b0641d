"""Runs Jobs where no node is: their pods end at once, as it is told, and say why."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from tests.cluster.pods import stamp

from phoenix_orch.kernel.errors import Conflict, NotFound, Retryable
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.patches import merge_patch_of
from phoenix_orch.kube.resources import PODS, Object, Resource
from phoenix_orch.recovery.sources.snapshot_plan import CLAIMS

JOB_LABEL = "batch.kubernetes.io/job-name"
NAME = "job-node"


class JobNode:
    """Of one namespace."""

    def __init__(self, client: KubeClient, namespace: str) -> None:
        self._client = client
        self._namespace = namespace
        self.broken = ""
        """What the state that is looked at has; empty: it is whole."""
        self.act: Callable[[Object], str] | None = None
        """What a pod does, in a thread; what of it is broken."""
        self.away = False
        """No pod is run."""
        self.ran: list[Object] = []
        """Pods, as they were when they ended."""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[JobNode]:
        stopping = asyncio.Event()
        task = asyncio.create_task(self._run(stopping))
        try:
            yield self
        finally:
            stopping.set()
            await task

    async def _run(self, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            with contextlib.suppress(Retryable, Conflict, NotFound):
                await self._look()
            await asyncio.sleep(0.1)

    async def _look(self) -> None:
        for pod in (await self._client.list(PODS, self._namespace, labels=JOB_LABEL)).items:
            done = (pod.get("status") or {}).get("phase") in {"Succeeded", "Failed"}
            if self.away or done or not await self._mounted(pod):
                continue
            if not pod["spec"].get("nodeName"):
                await self._scheduled(pod)  # it is run at the next look
            else:
                self.ran.append(pod)
                broken = self.broken
                if self.act is not None:
                    broken = await asyncio.to_thread(self.act, pod)
                await self._client.patch(
                    PODS,
                    pod["metadata"]["name"],
                    merge_patch_of(pod, {"status": _status(pod, broken)}),
                    self._namespace,
                    subresource="status",
                )

    async def _scheduled(self, pod: Object) -> None:
        """From here on its claims do not go before it does, ended or not: as on every node."""
        name = pod["metadata"]["name"]
        body = {"metadata": {"name": name}, "target": {"kind": "Node", "name": NAME}}
        await self._client.create(
            Resource("", "v1", f"pods/{name}/binding", "Binding"), body, self._namespace
        )

    async def _mounted(self, pod: Object) -> bool:
        """A pod begins when its claims are bound."""
        for volume in pod["spec"].get("volumes") or ():
            if name := (volume.get("persistentVolumeClaim") or {}).get("claimName"):
                claim = await self._client.get(CLAIMS, name, self._namespace)
                if (claim.get("status") or {}).get("phase") != "Bound":
                    return False
        return True


def _status(pod: Object, broken: str) -> dict[str, Any]:
    ended = {
        "exitCode": 1 if broken else 0,
        "reason": "Error" if broken else "Completed",
        "startedAt": stamp(),
        "finishedAt": stamp(),
        "message": broken or "the state is whole\n",
    }
    container = pod["spec"]["containers"][0]
    return {
        "phase": "Failed" if broken else "Succeeded",
        "startTime": stamp(),
        "containerStatuses": [
            {
                "name": container["name"],
                "image": container["image"],
                "imageID": "",
                "ready": False,
                "restartCount": 0,
                "state": {"terminated": ended},
            }
        ],
    }
