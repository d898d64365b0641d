"""Put a restored claim in the place of the one that a Deployment uses; the old claim is kept.

The pods are gone before the claim is exchanged, since two of them would write to two states. Every step is
conditional on what was read and may be done again: a process that died goes on where it was, by the note on
the Deployment.
"""

from __future__ import annotations

import asyncio
import json
import time
from datetime import datetime, timedelta
from typing import Any

from phoenix_orch.kernel.errors import Conflict, Invalid, Terminal
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.patches import merge_patch_of
from phoenix_orch.kube.resources import DEPLOYMENTS, PODS, Object
from phoenix_orch.recovery.sources.snapshot_plan import CLAIMS

NOTE = "phoenix-orch.io/volume-swap"
"""Annotation of a Deployment whose claim is being exchanged: JSON of old, new, replicas."""
KEPT = "phoenix-orch.io/kept-until"
"""Annotation of a claim that was replaced: when it may go."""
TRIES = 10
LOOK = 0.5


class VolumeSwap:
    """`timeout`: how long pods may take to end."""

    def __init__(self, client: KubeClient, namespace: str, *, timeout: timedelta, look: float = LOOK) -> None:
        self._client = client
        self._namespace = namespace
        self._timeout = timeout.total_seconds()
        self._look = look

    async def deployment(self, name: str, old: str, new: str, keep_until: datetime) -> None:
        """Idempotent. Raises Invalid where the Deployment does not use the claim, or another exchange is
        under way; Terminal where its pods do not end: then nothing but its size was changed."""
        found = await self._noted(name, old, new)
        note = _note(found)
        if note is None:
            return  # it was done before
        await self._without_pods(found)
        await self._changed(name, lambda one: repointed(one, old, new))
        await self._keep(old, keep_until)
        await self._changed(name, lambda one: _resumed(one, note["replicas"]))

    async def look(self, name: str, old: str, new: str) -> Object:
        """The Deployment, where this can be done; nothing is changed. Raises Invalid, and NotFound for what
        is not there."""
        found = await self._client.get(DEPLOYMENTS, name, self._namespace)
        note = _note(found)
        if note is not None:
            _refuse_other(name, note, old, new)
        elif claims_of(found) != {new}:
            _refuse(found, old)
        await self._client.get(CLAIMS, new, self._namespace)
        return found

    async def back(self, name: str, old: str, new: str, keep_until: datetime) -> None:
        """The way back: the old claim in the place of the new one."""
        await self.deployment(name, new, old, keep_until)

    async def _noted(self, name: str, old: str, new: str) -> Object:
        """Stopped, and with a note of how large it was."""
        found = await self._client.get(DEPLOYMENTS, name, self._namespace)
        note = _note(found)
        if note is None:
            if claims_of(found) == {new}:
                return found
            _refuse(found, old)
            wanted = {"old": old, "new": new, "replicas": found["spec"].get("replicas", 1)}
            return await self._changed(name, lambda _: _stopped(wanted))
        _refuse_other(name, note, old, new)
        return found

    async def _without_pods(self, deployment: Object) -> None:
        labels = deployment["spec"]["selector"].get("matchLabels", {})
        selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
        end = time.monotonic() + self._timeout
        while pods := (await self._client.list(PODS, self._namespace, labels=selector)).items:
            if time.monotonic() >= end:
                name = deployment["metadata"]["name"]
                raise Terminal(
                    f"pods of {name} have not ended: {pods[0]['metadata']['name']}",
                    remedy="end them, and restore again: it goes on from here",
                )
            await asyncio.sleep(self._look)

    async def _keep(self, claim: str, until: datetime) -> None:
        for _ in range(TRIES):
            found = await self._client.get(CLAIMS, claim, self._namespace)
            changes = {"metadata": {"annotations": {KEPT: until.isoformat()}}}
            try:
                await self._client.patch(CLAIMS, claim, merge_patch_of(found, changes), self._namespace)
            except Conflict:
                continue
            return
        raise Conflict(f"the claim {claim} is written by others all the time")

    async def _changed(self, name: str, changes: Any) -> Object:
        for _ in range(TRIES):
            found = await self._client.get(DEPLOYMENTS, name, self._namespace)
            try:
                return await self._client.patch(
                    DEPLOYMENTS, name, merge_patch_of(found, changes(found)), self._namespace
                )
            except Conflict:
                continue
        raise Conflict(f"the Deployment {name} is written by others all the time")


def claims_of(deployment: Object) -> set[str]:
    """The claims that its pods use."""
    volumes = deployment["spec"]["template"]["spec"].get("volumes") or []
    return {one["persistentVolumeClaim"]["claimName"] for one in volumes if "persistentVolumeClaim" in one}


def repointed(deployment: Object, old: str, new: str) -> dict[str, Any]:
    """Changes after which its pods use the new claim. Pure."""
    volumes = deployment["spec"]["template"]["spec"].get("volumes") or []
    changed = [
        {**one, "persistentVolumeClaim": {**one["persistentVolumeClaim"], "claimName": new}}
        if one.get("persistentVolumeClaim", {}).get("claimName") == old
        else one
        for one in volumes
    ]
    return {"spec": {"template": {"spec": {"volumes": changed}}}}


def _stopped(note: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"annotations": {NOTE: json.dumps(note, sort_keys=True)}}, "spec": {"replicas": 0}}


def _resumed(_: Object, replicas: int) -> dict[str, Any]:
    return {"metadata": {"annotations": {NOTE: None}}, "spec": {"replicas": replicas}}


def _note(deployment: Object) -> dict[str, Any] | None:
    text = (deployment["metadata"].get("annotations") or {}).get(NOTE)
    return json.loads(text) if text else None


def noted(workload: Object) -> frozenset[str]:
    """Both claims of an exchange of it that has not ended."""
    note = _note(workload)
    return frozenset() if note is None else frozenset({str(note["old"]), str(note["new"])})


def _refuse_other(name: str, note: dict[str, Any], old: str, new: str) -> None:
    if (note["old"], note["new"]) != (old, new):
        raise Invalid(
            f"{note['old']} of {name} is being replaced by {note['new']} already",
            remedy="complete that one first: give its claims",
        )


def _refuse(deployment: Object, old: str) -> None:
    if old not in claims_of(deployment):
        used = ", ".join(sorted(claims_of(deployment))) or "none"
        raise Invalid(
            f"the Deployment {deployment['metadata']['name']} does not use the claim {old}",
            remedy=f"it uses: {used}",
        )
