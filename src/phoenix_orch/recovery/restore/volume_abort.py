"""End a restore of a claim that died: nothing of it is left, and the claim is as it was.

    claim beside gone → old volume as it was → workloads as large as before → Job and snapshot objects gone
          → the restored volume let go of, and nothing noted any more

That can be while the claim has its old volume. Once that claim is gone the restored volume waits for its name
with the verified state: then the restore is to be ended, and there is the way back. The note goes last, so
that an abort which died is given again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from phoenix_orch.kernel.errors import BadState, Conflict, NotFound, Terminal
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.patches import merge_patch_of
from phoenix_orch.kube.resources import Object
from phoenix_orch.recovery.restore import exchange_plan as plans
from phoenix_orch.recovery.restore.exchange_plan import KEPT, Exchange
from phoenix_orch.recovery.restore.state_job import StateJobs
from phoenix_orch.recovery.restore.volume_exchange import LOOK, TRIES, VolumeExchange
from phoenix_orch.recovery.sources.snapshot_plan import (
    CLAIMS,
    CONTENTS,
    LONGEST,
    OURS,
    SCOPE,
    SNAPSHOTS,
    VOLUMES,
    short,
)


def beside(claim: str, backup: str) -> str:
    """The claim that a restore makes first."""
    return short(f"{claim}-restore", LONGEST - len(backup) - 1) + f"-{backup}"


@dataclass(frozen=True, slots=True)
class Begun:
    """A restore that has not ended."""

    namespace: str
    claim: str
    backup: str
    """Its id; empty: a volume that was kept goes back to its claim."""
    exchange: Exchange | None
    """None: nothing of the claim was touched."""


class VolumeAbort:
    """In one namespace, with the rights of a person. `timeout`: how long a claim may take to go."""

    def __init__(self, client: KubeClient, namespace: str, *, timeout: timedelta, look: float = LOOK) -> None:
        self._client = client
        self._namespace = namespace
        self._timeout = timeout.total_seconds()
        self._look = look
        self._exchange = VolumeExchange(client, namespace, timeout=timeout, look=look)

    async def begun(self, claim: str, backup: str) -> Begun:
        """`backup`: empty where that of the exchange is meant. Raises NotFound where nothing is begun, and
        BadState where it can only go on."""
        exchange = await self._exchange.begun(claim)
        if exchange is None:
            if not backup or not await self._anything(claim, backup):
                what = f"of backup {backup} " if backup else ""
                raise NotFound(
                    f"no restore {what}into the claim {claim} in {self._namespace} is under way",
                    remedy="one that died before it exchanged anything is named by its backup: "
                    f"phoenix restore abort ID --claim {claim}",
                )
            return Begun(self._namespace, claim, backup, None)
        if backup and exchange.backup and backup != exchange.backup:
            raise BadState(
                f"it is backup {exchange.backup} that is being restored into {claim}, and not {backup}",
                remedy=f"phoenix restore abort {exchange.backup} --claim {claim} -n {self._namespace}",
            )
        await self._refuse_late(exchange)
        return Begun(self._namespace, claim, exchange.backup or backup, exchange)

    async def run(self, one: Begun, keep_until: datetime) -> None:
        """Idempotent. `keep_until`: of a restored volume that its storage class keeps. Raises BadState,
        Terminal where the claim beside does not go."""
        exchange = one.exchange
        if exchange is not None:
            await self._refuse_late(exchange)
        through = exchange.through if exchange is not None else beside(one.claim, one.backup)
        if one.backup:  # before the claim: a pod that looks at it holds it
            await StateJobs(self._client, self._namespace).removed(f"verify-{one.backup}")
        if through:
            await self._claim_gone(through)
        if exchange is not None and exchange.old_volume:
            await self._changed(exchange.old_volume, lambda now: _as_before(exchange, now))
        if exchange is not None:
            await self._exchange.resume(one.claim)
        if one.backup:
            await self._snapshot_gone(one.backup)
        if exchange is not None:
            until = keep_until.isoformat()
            await self._changed(exchange.volume, lambda now: plans.let_go(exchange, now, until))

    async def _refuse_late(self, one: Exchange) -> None:
        """Raises BadState where the old claim is gone, or goes."""
        found = await self._or_none(CLAIMS, one.claim, self._namespace)
        volume = str((found or {}).get("spec", {}).get("volumeName") or "")
        going = found is not None and "deletionTimestamp" in found["metadata"]
        if volume == one.old_volume and not going and (found is not None) == bool(one.old_volume):
            return
        kept = f"; {one.old_volume} is kept, and the way back is told then" if one.old_volume else ""
        raise BadState(
            f"{one.claim} has its old volume no more: the restored {one.volume} waits for its name",
            remedy=f"give the command of the restore again, which ends it{kept}",
        )

    async def _anything(self, claim: str, backup: str) -> bool:
        """Whether a restore has made something before it touched the claim."""
        made = await self._or_none(CLAIMS, beside(claim, backup), self._namespace)
        return made is not None or bool(await self._statically(backup))

    async def _claim_gone(self, name: str) -> None:
        end = time.monotonic() + self._timeout
        while (found := await self._or_none(CLAIMS, name, self._namespace)) is not None:
            if "deletionTimestamp" not in found["metadata"]:
                with contextlib.suppress(NotFound):
                    await self._client.delete(CLAIMS, name, self._namespace, uid=found["metadata"]["uid"])
            if time.monotonic() >= end:
                raise Terminal(
                    f"the claim {name} does not go: {', '.join(found['metadata'].get('finalizers') or ())}",
                    remedy=f"kubectl describe pvc {name} -n {self._namespace}; then abort again",
                )
            await asyncio.sleep(self._look)

    async def _snapshot_gone(self, backup: str) -> None:
        """Objects that were made to find the snapshot again; the storage keeps it."""
        for snapshot in await self._statically(backup):
            name, content = (
                snapshot["metadata"]["name"],
                snapshot["spec"]["source"]["volumeSnapshotContentName"],
            )
            found = await self._or_none(CONTENTS, content, "")
            if found is not None and found["spec"]["deletionPolicy"] != "Retain":
                changes = {"spec": {"deletionPolicy": "Retain"}}
                await self._client.patch(CONTENTS, content, merge_patch_of(found, changes))
            with contextlib.suppress(NotFound):
                await self._client.delete(SNAPSHOTS, name, self._namespace, uid=snapshot["metadata"]["uid"])
        for content in await self._contents(backup):
            with contextlib.suppress(NotFound):
                metadata = content["metadata"]
                await self._client.delete(CONTENTS, metadata["name"], uid=metadata["uid"])

    async def _statically(self, backup: str) -> list[Object]:
        """VolumeSnapshots of the backup that were made of the storage's handle."""
        found = (await self._client.list(SNAPSHOTS, self._namespace, labels=f"{OURS}={backup}")).items
        return [
            one
            for one in found
            if "volumeSnapshotContentName" in one["spec"]["source"]
            and SCOPE not in (one["metadata"].get("labels") or {})
        ]

    async def _contents(self, backup: str) -> list[Object]:
        found = (await self._client.list(CONTENTS, "", labels=f"{OURS}={backup}")).items
        return [
            one
            for one in found
            if one["spec"]["volumeSnapshotRef"]["namespace"] == self._namespace
            and "snapshotHandle" in one["spec"]["source"]
            and one["spec"]["deletionPolicy"] == "Retain"
        ]

    async def _changed(self, volume: str, changes: Callable[[Object], Mapping[str, Any]]) -> None:
        for _ in range(TRIES):
            found = await self._client.get(VOLUMES, volume)
            if not (wanted := changes(found)):
                return
            try:
                await self._client.patch(VOLUMES, volume, merge_patch_of(found, wanted))
            except Conflict:
                continue
            return
        raise Conflict(f"the volume {volume} is written by others all the time")

    async def _or_none(self, kind: Any, name: str, namespace: str) -> Object | None:
        try:
            return await self._client.get(kind, name, namespace)
        except NotFound:
            return None


def _as_before(one: Exchange, volume: Object) -> Mapping[str, Any]:
    """Changes after which the volume that a claim has is as it was before the restore; none where it is."""
    there = volume["spec"]["persistentVolumeReclaimPolicy"]
    policy = one.old_policy or there
    if there == policy and KEPT not in (volume["metadata"].get("annotations") or {}):
        return {}
    return {
        "metadata": {"annotations": {KEPT: None}},
        "spec": {"persistentVolumeReclaimPolicy": policy},
    }
