"""What a kubelet would say of pods, where there is none: their statuses, written as it writes them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

from phoenix_orch.kernel.errors import Conflict, NotFound, Retryable
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.patches import merge_patch_of
from phoenix_orch.kube.resources import PODS, Object

_STARTED = timedelta(seconds=30)
"""Pods began so long ago, since the times of the API server are whole seconds."""


_ADDRESS = "192.0.2.1"
"""Of every pod, so that it is an endpoint of its Service; nobody calls it."""


def stamp(moment: datetime | None = None) -> str:
    return (moment or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")


class Kubelet:
    """Makes pods ready whose image it is not told to leave alone."""

    def __init__(self, client: KubeClient, namespace: str) -> None:
        self._client = client
        self._namespace = namespace
        self.never_ready: set[str] = set()
        """Images of which pods do not get ready."""
        self._done: set[str] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Kubelet]:
        stopping = asyncio.Event()
        task = asyncio.create_task(self._run(stopping))
        try:
            yield self
        finally:
            stopping.set()
            await task  # a request that is cancelled on its way would leave its connection open

    async def _run(self, stopping: asyncio.Event) -> None:
        """By polling: a test of watches should not depend on them twice."""
        while not stopping.is_set():
            with contextlib.suppress(Retryable):  # of a machine with much else to do
                await self._look()
            await asyncio.sleep(0.1)

    async def _look(self) -> None:
        for pod in (await self._client.list(PODS, self._namespace)).items:
            image = pod["spec"]["containers"][0]["image"]
            if pod["metadata"]["uid"] not in self._done and image not in self.never_ready:
                await self.say(pod["metadata"]["name"], ready=True)
                self._done.add(pod["metadata"]["uid"])

    async def say(self, name: str, *, ready: bool, **container: Any) -> None:
        """Write a status. `container`: fields of the one container's status."""
        for _ in range(20):
            try:
                pod = await self._client.get(PODS, name, self._namespace)
                patch = merge_patch_of(pod, {"status": _status(pod, ready=ready, container=container)})
                await self._client.patch(PODS, name, patch, self._namespace, subresource="status")
            except Conflict:
                continue
            except NotFound:
                pass
            return
        raise AssertionError(f"the status of {name} could not be written")


def _status(pod: Object, *, ready: bool, container: dict[str, Any]) -> dict[str, Any]:
    began = stamp(datetime.now(UTC) - _STARTED)
    word = "True" if ready else "False"
    said = {
        "name": pod["spec"]["containers"][0]["name"],
        "image": pod["spec"]["containers"][0]["image"],
        "imageID": "",
        "ready": ready,
        "restartCount": 0,
        "state": {"running": {"startedAt": began}},
        **container,
    }
    return {
        "phase": "Running" if "running" in said["state"] else "Pending",
        "startTime": began,
        "podIP": _ADDRESS,
        "podIPs": [{"ip": _ADDRESS}],
        "conditions": [
            {"type": kind, "status": word, "lastTransitionTime": stamp()}
            for kind in ("Ready", "ContainersReady")
        ],
        "containerStatuses": [said],
    }
