"""Looks at what restores have kept of before in a namespace, and deletes what may go; a person's rights.

A volume is let go of by its policy, so that whoever made it deletes it in the storage, too. Each change
holds only for the object as it was looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, datetime, timedelta

from phoenix_orch.kernel.errors import Conflict, NotFound, Outdated, Terminal
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.patches import merge_patch
from phoenix_orch.kube.resources import DEPLOYMENTS, PODS, STATEFUL_SETS, Object, Resource
from phoenix_orch.recovery.restore import kept_plan
from phoenix_orch.recovery.restore.kept_plan import Kept
from phoenix_orch.recovery.sources.snapshot_plan import CLAIMS, VOLUMES

DAEMON_SETS = Resource("apps", "v1", "daemonsets", "DaemonSet")
CRON_JOBS = Resource("batch", "v1", "cronjobs", "CronJob")
WORKLOADS = (DEPLOYMENTS, STATEFUL_SETS, DAEMON_SETS, CRON_JOBS)
"""Kinds that make pods of a template, also when there is none."""
LOOK = 0.5
_LAST = datetime.max.replace(tzinfo=UTC)


class KeptStates:
    """Of one namespace. `timeout`: how long the storage may take to delete one."""

    def __init__(self, client: KubeClient, namespace: str, *, timeout: timedelta, look: float = LOOK) -> None:
        self.where = namespace
        self._client = client
        self._namespace = namespace
        self._timeout = timeout.total_seconds()
        self._look = look

    async def found(self, now: datetime) -> list[Kept]:
        """Claims and volumes, by the time until which they are kept. Changes nothing."""
        claims = await self._all(CLAIMS)
        marked = kept_plan.claims(claims, {}, now)
        if marked:
            workloads = [{**one, "kind": kind.kind} for kind in WORKLOADS for one in await self._all(kind)]
            using = kept_plan.users(workloads, await self._all(PODS), [one.name for one in marked])
            marked = kept_plan.claims(claims, using, now)
        volumes = kept_plan.volumes(await self._all(VOLUMES), claims, self._namespace, now)
        return sorted([*marked, *volumes], key=lambda one: (one.until or _LAST, one.name))

    async def delete(self, one: Kept) -> None:
        """What was found, and may go. Returns when it is gone; one that went meanwhile is gone.

        Raises Outdated where it has changed since it was found, Terminal where it does not go in time.
        """
        assert not one.stays
        try:
            await self._let_go(one)
        except NotFound:
            return
        except Conflict as error:
            raise Outdated(
                f"{one.kind} {one.name} has changed since it was looked at, and stays",
                remedy="look again: phoenix restore kept",
            ) from error
        end = time.monotonic() + self._timeout
        while (found := await self._there(one)) is not None:
            if time.monotonic() >= end:
                why = (found.get("status") or {}).get("message") or "nothing says why"
                raise Terminal(
                    f"{one.kind} {one.name} was let go of, and is there still: {why}",
                    remedy=f"kubectl describe {_word(one)} {one.name} says what its storage does",
                )
            await asyncio.sleep(self._look)

    async def _let_go(self, one: Kept) -> None:
        if one.kind == CLAIMS.kind:
            await self._client.delete(CLAIMS, one.name, self._namespace, uid=one.uid, version=one.version)
            return
        changes = {"spec": {"persistentVolumeReclaimPolicy": "Delete"}}
        await self._client.patch(VOLUMES, one.name, merge_patch(changes, version=one.version))

    async def _there(self, one: Kept) -> Object | None:
        """The same one; another of its name is none."""
        kind, place = (CLAIMS, self._namespace) if one.kind == CLAIMS.kind else (VOLUMES, "")
        with contextlib.suppress(NotFound):
            found = await self._client.get(kind, one.name, place)
            if found["metadata"]["uid"] == one.uid:
                return found
        return None

    async def _all(self, kind: Resource) -> list[Object]:
        return (await self._client.list(kind, self._namespace if kind.namespaced else "")).items


def _word(one: Kept) -> str:
    return "pvc" if one.kind == CLAIMS.kind else "pv"
