"""A Job in a cluster that looks at a claim: made, awaited, and what it said."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence

from phoenix_orch.kernel.errors import NotFound, Retryable, Terminal
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.errors import AlreadyExists
from phoenix_orch.kube.resources import PODS, Object, Resource
from phoenix_orch.recovery.errors import Stopped

JOBS = Resource("batch", "v1", "jobs", "Job")
LOOK = 0.5
SLACK = 60.0
"""Seconds beyond the deadline of a Job, which its controller keeps."""
LEAVING = 120.0
"""Seconds that the pods of a Job may take to go with it."""


class StateJobs:
    """Those of one namespace."""

    def __init__(
        self,
        client: KubeClient,
        namespace: str,
        *,
        look: float = LOOK,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._look = look
        self._stop = stop

    async def passed(self, body: Object) -> str:
        """What its pod said at its end, in a line. One that is there already is awaited: it may have ended.

        Raises Terminal where it failed, Stopped.
        """
        name = str(body["metadata"]["name"])
        with contextlib.suppress(AlreadyExists):
            await self._client.create(JOBS, body, self._namespace)
        end = time.monotonic() + body["spec"]["activeDeadlineSeconds"] + SLACK
        while not (conditions := _ended(await self._client.get(JOBS, name, self._namespace))):
            if self._stop():
                raise Stopped(
                    "stopped while a Job looked at the volume", remedy="start it again when you like"
                )
            if time.monotonic() >= end:
                raise Terminal(
                    f"the Job {name} has not ended in its time",
                    remedy=f"kubectl describe job {name} -n {self._namespace}: is there a node for its pod?",
                )
            await asyncio.sleep(self._look)
        said = await self._said(name)
        if "Failed" in conditions:
            raise Terminal(
                f"the Job {name} does not find the state whole: {said or conditions['Failed']}",
                remedy="use another backup",
            )
        return said or "the Job has passed"

    async def removed(self, name: str) -> None:
        """With its pods: they are gone when this returns. Idempotent. Raises Retryable where they stay."""
        with contextlib.suppress(NotFound):
            found = await self._client.get(JOBS, name, self._namespace)
            await self._client.delete(
                JOBS, name, self._namespace, uid=found["metadata"]["uid"], propagation="Background"
            )
        end = time.monotonic() + LEAVING
        while pods := await self._pods(name):
            if time.monotonic() >= end:
                pod = pods[0]["metadata"]["name"]
                raise Retryable(
                    f"the pod {pod} of the Job {name} has not gone in {LEAVING:g} s",
                    remedy=f"kubectl delete pod -n {self._namespace} {pod}; then restore again: it goes on",
                )
            await asyncio.sleep(self._look)

    async def _said(self, name: str) -> str:
        """The last line of what its pods left."""
        for pod in await self._pods(name):
            for status in (pod.get("status") or {}).get("containerStatuses") or ():
                text = ((status.get("state") or {}).get("terminated") or {}).get("message") or ""
                if lines := [line for line in text.splitlines() if line.strip()]:
                    return str(lines[-1])[:500]
        return ""

    async def _pods(self, job: str) -> Sequence[Object]:
        label = f"batch.kubernetes.io/job-name={job}"
        return (await self._client.list(PODS, self._namespace, labels=label)).items


def _ended(job: Object) -> dict[str, str]:
    """Conditions that say that it is over, with their reasons."""
    conditions = (job.get("status") or {}).get("conditions") or ()
    return {
        one["type"]: str(one.get("message") or one.get("reason") or "")
        for one in conditions
        if one["type"] in {"Complete", "Failed"} and one["status"] == "True"
    }
