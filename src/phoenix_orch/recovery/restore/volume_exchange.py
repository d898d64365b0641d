"""Put a restored volume in the place of the one that a claim has; the claim keeps its name.

    noted → nobody uses the claim → restored volume reserved for its name → old claim gone → new claim bound
          → workloads as large as before

The old volume stays, reserved for nobody. Until the old claim goes nothing of it is changed. When it goes,
the restored volume waits for a claim of its name already: also a claim that a controller makes in that moment
gets the restored data, and no empty volume. Every step may be done again: a process that died goes on by the
note on the volume.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from phoenix_orch.kernel.errors import BadState, Conflict, NotFound, Terminal
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.errors import AlreadyExists
from phoenix_orch.kube.patches import merge_patch_of
from phoenix_orch.kube.resources import DEPLOYMENTS, PODS, STATEFUL_SETS, Object, Resource
from phoenix_orch.recovery.restore import exchange_plan as plans
from phoenix_orch.recovery.restore.exchange_plan import KEPT, NOTE, PLACE, Exchange
from phoenix_orch.recovery.sources.snapshot_plan import CLAIMS, VOLUMES, scope_label

TRIES = 10
LOOK = 0.5
KINDS = (DEPLOYMENTS, STATEFUL_SETS)


class Step(StrEnum):
    """Told after each."""

    NOTED = "noted"
    KEPT = "the old volume is kept"
    STOPPED = "nobody uses the claim"
    FREED = "the restored volume is bound to no claim"
    RESERVED = "it waits for the claim's name"
    GONE = "the old claim is gone"
    BOUND = "the new claim is bound to it"
    RESUMED = "workloads are as large as before"
    ENDED = "nothing is noted any more"


class VolumeExchange:
    """In one namespace, with the rights of a person. `timeout`: how long pods may take to end."""

    def __init__(
        self,
        client: KubeClient,
        namespace: str,
        *,
        timeout: timedelta,
        look: float = LOOK,
        told: Callable[[Step], None] = lambda _: None,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._timeout = timeout.total_seconds()
        self._look = look
        self._told = told

    async def begun(self, claim: str) -> Exchange | None:
        """The exchange of this claim that was begun and has not ended."""
        found = (await self._client.list(VOLUMES, "", labels=f"{PLACE}={self._label(claim)}")).items
        notes = [note for one in found if (note := plans.read_note(one)) is not None]
        return notes[0] if notes else None

    async def users(self, claim: str) -> list[Object]:
        """Workloads whose pods use it, with their kinds in `kind`."""
        return [
            {**one, "kind": kind.kind}
            for kind in KINDS
            for one in (await self._client.list(kind, self._namespace)).items
            if plans.uses(one, claim)
        ]

    async def planned(
        self,
        claim: str,
        volume: str,
        *,
        through: str = "",
        labels: Mapping[str, str] | None = None,
        plan: str = "",
        backup: str = "",
    ) -> Exchange:
        """What would be done; nothing is. `through`: the claim that the volume is bound to. `labels`: of the
        claim, where it is lost. `plan`: a hash. `backup`: its id.

        Raises NotFound, and BadState where it cannot be: nothing is to be lost.
        """
        new = await self._client.get(VOLUMES, volume)
        old = await self._claim(claim)
        holder = new["spec"].get("claimRef") or {}
        like = await self._claim(through) if through else old
        if not through and (await self._taken(new)):
            raise BadState(
                f"the volume {volume} belongs to the claim {holder.get('name')} in {holder.get('namespace')}",
                remedy="name one that no claim has: kubectl get pv",
            )
        if like is None:
            like = {
                "metadata": {"namespace": self._namespace},
                "spec": {"accessModes": new["spec"]["accessModes"]},
            }
        old_volume = str((old or {}).get("spec", {}).get("volumeName") or "")
        kept = await self._client.get(VOLUMES, old_volume) if old_volume else None
        return Exchange(
            namespace=self._namespace,
            claim=claim,
            volume=volume,
            through=through,
            old_volume=old_volume,
            policy=str(new["spec"].get("persistentVolumeReclaimPolicy") or "Delete"),
            body=plans.new_claim(claim, like, new, old, labels or {}),
            plan=plan,
            old_policy=str(kept["spec"]["persistentVolumeReclaimPolicy"]) if kept is not None else "",
            backup=backup,
        )

    async def refuse_ended(self, *claims: str) -> None:
        """Raises BadState where pods that have ended keep one of the claims, which has to go."""
        pods = (await self._client.list(PODS, self._namespace)).items
        for claim in claims:
            if await self._claim(claim) is not None:
                plans.refuse_ended(pods, claim, self._namespace)

    async def run(self, one: Exchange, keep_until: datetime) -> None:
        """All but `end`. Idempotent. Raises Terminal where pods do not end, BadState where ended pods keep
        a claim: then workloads are as large as they were."""
        if not await self._done(one):
            await self.refuse_ended(*filter(None, (one.claim, one.through)))
            await self._noted(one)
            await self._kept(one, keep_until)
            await self._stop(one.claim)
            await self._freed(one)
            await self._reserved(one)
            await self._replaced(one)
        await self.resume(one.claim)

    async def end(self, one: Exchange) -> None:
        """Nothing is noted of it any more: there is nothing to go on with."""
        changes = {
            "metadata": {"labels": {PLACE: None}, "annotations": {NOTE: None}},
            "spec": {"persistentVolumeReclaimPolicy": one.policy},
        }
        found = await self._client.get(VOLUMES, one.volume)
        if plans.read_note(found) is not None:
            await self._changed(VOLUMES, one.volume, lambda _: changes)
        self._told(Step.ENDED)

    # -- steps -----------------------------------------------------------------------------------------

    async def _done(self, one: Exchange) -> bool:
        found = await self._claim(one.claim)
        bound = (found or {}).get("status", {}).get("phase") == "Bound"
        return found is not None and bound and found["spec"].get("volumeName") == one.volume

    async def _noted(self, one: Exchange) -> None:
        changes = {
            "metadata": {
                "labels": {PLACE: self._label(one.claim)},
                "annotations": {NOTE: one.stored(), KEPT: None},
            },
            "spec": {"persistentVolumeReclaimPolicy": "Retain"},
        }
        await self._changed(VOLUMES, one.volume, lambda _: changes)
        self._told(Step.NOTED)

    async def _kept(self, one: Exchange, until: datetime) -> None:
        if one.old_volume:
            changes = {
                "metadata": {"annotations": {KEPT: until.isoformat()}},
                "spec": {"persistentVolumeReclaimPolicy": "Retain"},
            }
            await self._changed(VOLUMES, one.old_volume, lambda _: changes)
        self._told(Step.KEPT)

    async def _stop(self, claim: str) -> None:
        found = await self.users(claim)
        for one in found:
            plans.refuse_deleting(one)
        for one in found:
            if plans.stopped_for(one) is None:
                kind = _kind(one)
                await self._changed(kind, one["metadata"]["name"], lambda now: plans.stopped(now, claim))
        try:
            await self._unused(claim)
        except (Terminal, BadState):
            await self.resume(claim)
            raise
        self._told(Step.STOPPED)

    async def _unused(self, claim: str) -> None:
        end = time.monotonic() + self._timeout
        while pods := plans.users((await self._client.list(PODS, self._namespace)).items, claim):
            if time.monotonic() >= end:
                raise Terminal(
                    f"pods that use {claim} have not ended: {', '.join(pods[:3])}; nothing was exchanged",
                    remedy="end them, and whatever makes them anew, and restore again",
                )
            await asyncio.sleep(self._look)
        await self.refuse_ended(claim)  # one of them may have ended, and stay

    async def _freed(self, one: Exchange) -> None:
        if one.through:
            await self._gone(one.through, one.volume)
        self._told(Step.FREED)

    async def _reserved(self, one: Exchange) -> None:
        await self._changed(VOLUMES, one.volume, lambda now: self._reservation(now, one))
        self._told(Step.RESERVED)

    def _reservation(self, volume: Object, one: Exchange) -> dict[str, Any]:
        holder = volume["spec"].get("claimRef") or {}
        names = {one.through, one.claim, ""}
        if holder.get("name", "") not in names or holder.get("namespace", one.namespace) != one.namespace:
            raise BadState(
                f"the volume {one.volume} has another claim, {holder.get('name')}; nothing was exchanged",
                remedy="restore again",
            )
        return plans.reserved(one.namespace, one.claim)

    async def _replaced(self, one: Exchange) -> None:
        if one.old_volume:
            await self._gone(one.claim, one.old_volume)
        self._told(Step.GONE)
        with contextlib.suppress(AlreadyExists):  # by us, or by a StatefulSet: it gets what waits for it
            await self._client.create(CLAIMS, one.body, self._namespace)
        end = time.monotonic() + self._timeout
        while not await self._done(one):
            if time.monotonic() >= end:
                raise Terminal(
                    f"the claim {one.claim} is not bound to {one.volume} yet",
                    remedy=self._look_at(one.claim),
                )
            await asyncio.sleep(self._look)
        self._told(Step.BOUND)

    async def resume(self, claim: str) -> None:
        for one in await self.users(claim):
            noted = plans.stopped_for(one)
            if noted is not None and noted.get("claim") == claim:
                await self._changed(_kind(one), one["metadata"]["name"], plans.resumed)
        self._told(Step.RESUMED)

    # -- parts -----------------------------------------------------------------------------------------

    async def _gone(self, claim: str, volume: str) -> None:
        """The claim, if it has this volume. Its volume is kept: that was made sure of before."""
        end = time.monotonic() + self._timeout
        while (found := await self._claim(claim)) is not None:
            if found["spec"].get("volumeName") != volume:
                return  # another one, that came after it
            kept = (await self._client.get(VOLUMES, volume))["spec"]["persistentVolumeReclaimPolicy"]
            if kept != "Retain":
                raise BadState(
                    f"the volume {volume} would be deleted with its claim; nothing was exchanged",
                    remedy="find out who changes its reclaim policy, and restore again",
                )
            if "deletionTimestamp" not in found["metadata"]:
                try:
                    await self._client.delete(CLAIMS, claim, self._namespace, uid=found["metadata"]["uid"])
                except NotFound:
                    return
            if time.monotonic() >= end:
                raise Terminal(
                    f"the claim {claim} does not go: {', '.join(found['metadata'].get('finalizers') or ())}",
                    remedy=self._look_at(claim),
                )
            await asyncio.sleep(self._look)

    async def _claim(self, name: str) -> Object | None:
        try:
            return await self._client.get(CLAIMS, name, self._namespace)
        except NotFound:
            return None

    async def _taken(self, volume: Object) -> bool:
        """Whether a claim that is there has it."""
        holder = volume["spec"].get("claimRef") or {}
        if not holder.get("uid"):
            return False
        try:
            found = await self._client.get(CLAIMS, holder["name"], holder["namespace"])
        except NotFound:
            return False
        return bool(found["metadata"]["uid"] == holder["uid"])

    async def _changed(
        self, kind: Resource, name: str, changes: Callable[[Object], Mapping[str, Any]]
    ) -> Object:
        place = self._namespace if kind.namespaced else ""
        for _ in range(TRIES):
            found = await self._client.get(kind, name, place)
            try:
                return await self._client.patch(kind, name, merge_patch_of(found, changes(found)), place)
            except Conflict:
                continue
        raise Conflict(f"{kind.kind} {name} is written by others all the time")

    def _look_at(self, claim: str) -> str:
        return f"kubectl describe pvc {claim} -n {self._namespace}; then restore again: it goes on from there"

    def _label(self, claim: str) -> str:
        return scope_label(f"{self._namespace}/{claim}")


def _kind(workload: Object) -> Resource:
    return next(kind for kind in KINDS if kind.kind == workload["kind"])
