"""Plays the snapshot controller, its side-car and a CSI driver: what a cluster with such storage does.

As external-snapshotter does it: content named after the snapshot's uid with the class's deletion policy,
bound both ways, finalizers on both, the storage's snapshot deleted with a content whose policy says so, and
claims provisioned from a snapshot that is ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from phoenix_orch.kernel.errors import Conflict, NotFound, Retryable
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.errors import AlreadyExists
from phoenix_orch.kube.patches import merge_patch_of
from phoenix_orch.kube.resources import ALL_NAMESPACES, Object, Resource
from phoenix_orch.recovery.sources.snapshot_plan import CLAIMS, CLASSES, CONTENTS, GROUP, SNAPSHOTS, VOLUMES

DRIVER = "hostpath.csi.test"
SNAPSHOT_FINALIZERS = [
    f"{GROUP}/volumesnapshot-as-source-protection",
    f"{GROUP}/volumesnapshot-bound-protection",
]
CONTENT_FINALIZERS = [f"{GROUP}/volumesnapshotcontent-bound-protection"]
RESTORE_SIZE = 3 * 2**30
"""More than the claims ask for, as storage with a smallest size has it."""


@dataclass
class Storage:
    """What the storage has, and what goes wrong with it."""

    snapshots: dict[str, str] = field(default_factory=dict)
    """Handle → volume that was copied."""
    volumes: dict[str, str] = field(default_factory=dict)
    """Handle → snapshot that it was made of."""
    fault: str = ""
    """What it says instead of taking a snapshot."""
    absent: bool = False
    """No controller looks."""
    slow: bool = False
    """Snapshots are bound, and not ready."""


@contextlib.asynccontextmanager
async def playing(client: KubeClient) -> AsyncIterator[Storage]:
    storage = Storage()
    task = asyncio.create_task(_play(client, storage))
    try:
        yield storage
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


STORAGE_CLASSES = Resource("storage.k8s.io", "v1", "storageclasses", "StorageClass", namespaced=False)


async def _play(client: KubeClient, storage: Storage) -> None:
    while True:
        if not storage.absent:
            for resource, act in ACTS:
                with contextlib.suppress(Retryable):  # of a machine with much else to do
                    for found in (await client.list(resource, ALL_NAMESPACES)).items:
                        with contextlib.suppress(Conflict, NotFound, AlreadyExists):  # the next look does it
                            await act(client, storage, found)
        await asyncio.sleep(0.1)


async def _snapshot(client: KubeClient, storage: Storage, found: Object) -> None:
    metadata, source = found["metadata"], found["spec"]["source"]
    if "deletionTimestamp" in metadata:
        bound = str((found.get("status") or {}).get("boundVolumeSnapshotContentName"))
        with contextlib.suppress(NotFound):
            content = await client.get(CONTENTS, bound)
            if content["spec"]["deletionPolicy"] == "Delete":
                await client.delete(CONTENTS, bound, uid=content["metadata"]["uid"])
        return await _finalizers(client, SNAPSHOTS, found, [])
    if metadata.get("finalizers") != SNAPSHOT_FINALIZERS:
        return await _finalizers(client, SNAPSHOTS, found, SNAPSHOT_FINALIZERS)
    if storage.fault:
        error = {"message": storage.fault, "time": "2026-01-01T00:00:00Z"}
        return await _status(client, SNAPSHOTS, found, {"readyToUse": False, "error": error})
    name = source.get("volumeSnapshotContentName") or f"snapcontent-{metadata['uid']}"
    try:
        content = await client.get(CONTENTS, name)
    except NotFound:
        if "persistentVolumeClaimName" in source:
            await _make_content(client, storage, found, name)
        return None
    reference = content["spec"]["volumeSnapshotRef"]
    if (reference["name"], reference["namespace"]) != (metadata["name"], metadata["namespace"]):
        return None
    if not reference.get("uid"):
        changes = {"spec": {"volumeSnapshotRef": {"uid": metadata["uid"]}}}
        await client.patch(CONTENTS, name, merge_patch_of(content, changes))
        return None
    of_content = content.get("status") or {}
    status = {
        "boundVolumeSnapshotContentName": name,
        "readyToUse": bool(of_content.get("readyToUse")),
        "error": None,
    }
    if "restoreSize" in of_content:
        status["restoreSize"] = str(of_content["restoreSize"])
    if "error" in of_content:
        status["error"] = of_content["error"]
    return await _status(client, SNAPSHOTS, found, status)


async def _make_content(client: KubeClient, storage: Storage, snapshot: Object, name: str) -> None:
    metadata = snapshot["metadata"]
    claim_name = snapshot["spec"]["source"]["persistentVolumeClaimName"]
    claim = await client.get(CLAIMS, claim_name, metadata["namespace"])
    volume = await client.get(VOLUMES, claim["spec"]["volumeName"])
    of_class = await client.get(CLASSES, snapshot["spec"]["volumeSnapshotClassName"])
    body: Object = {
        "metadata": {"name": name, "finalizers": CONTENT_FINALIZERS},
        "spec": {
            "deletionPolicy": of_class["deletionPolicy"],
            "driver": of_class["driver"],
            "source": {"volumeHandle": volume["spec"]["csi"]["volumeHandle"]},
            "sourceVolumeMode": "Filesystem",
            "volumeSnapshotClassName": of_class["metadata"]["name"],
            "volumeSnapshotRef": {
                "apiVersion": SNAPSHOTS.api_version,
                "kind": SNAPSHOTS.kind,
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
            },
        },
    }
    await client.create(CONTENTS, body)


async def _content(client: KubeClient, storage: Storage, found: Object) -> None:
    metadata, spec = found["metadata"], found["spec"]
    status = found.get("status") or {}
    if "deletionTimestamp" in metadata:
        if spec["deletionPolicy"] == "Delete" and status.get("snapshotHandle"):
            storage.snapshots.pop(status["snapshotHandle"], None)
        return await _finalizers(client, CONTENTS, found, [])
    if metadata.get("finalizers") != CONTENT_FINALIZERS:
        return await _finalizers(client, CONTENTS, found, CONTENT_FINALIZERS)
    if status.get("readyToUse") or storage.slow:
        return None
    handle = spec["source"].get("snapshotHandle")
    if handle is None:
        handle = f"snap-of-{metadata['uid']}"
        storage.snapshots[handle] = spec["source"]["volumeHandle"]
    if handle not in storage.snapshots:
        error = {"message": f"snapshot {handle} not found", "time": "2026-01-01T00:00:00Z"}
        return await _status(client, CONTENTS, found, {"readyToUse": False, "error": error})
    ready = {
        "readyToUse": True,
        "snapshotHandle": handle,
        "restoreSize": RESTORE_SIZE,
        "creationTime": 1_795_000_000_000_000_000,
    }
    return await _status(client, CONTENTS, found, ready)


async def _claim(client: KubeClient, storage: Storage, found: Object) -> None:
    """As the external provisioner: a volume for a claim of a ready snapshot, if it is large enough."""
    metadata, spec = found["metadata"], found["spec"]
    source = spec.get("dataSource") or {}
    if source.get("kind") != SNAPSHOTS.kind or spec.get("volumeName"):
        return
    snapshot = await client.get(SNAPSHOTS, source["name"], metadata["namespace"])
    status = snapshot.get("status") or {}
    if not status.get("readyToUse") or int(spec["resources"]["requests"]["storage"]) < RESTORE_SIZE:
        return
    content = await client.get(CONTENTS, status["boundVolumeSnapshotContentName"])
    handle = f"volume-of-{metadata['uid']}"
    storage.volumes[handle] = content["status"]["snapshotHandle"]
    made = volume(f"pv-{metadata['uid']}", handle, spec, metadata)
    made["spec"]["claimRef"]["uid"] = metadata["uid"]  # a claim that went meanwhile releases it
    if spec.get("storageClassName"):
        of_class = await client.get(STORAGE_CLASSES, spec["storageClassName"])
        made["spec"]["persistentVolumeReclaimPolicy"] = of_class["reclaimPolicy"]
    await client.create(VOLUMES, made)


async def _volume(client: KubeClient, storage: Storage, found: Object) -> None:
    """A volume that was given back goes, where its policy says so."""
    spec, phase = found["spec"], (found.get("status") or {}).get("phase")
    if spec.get("csi", {}).get("driver") != DRIVER or spec["persistentVolumeReclaimPolicy"] != "Delete":
        return
    if phase in {"Released", "Failed"} and "deletionTimestamp" not in found["metadata"]:
        storage.volumes.pop(spec["csi"]["volumeHandle"], None)
        await client.delete(VOLUMES, found["metadata"]["name"], uid=found["metadata"]["uid"])


def volume(name: str, handle: str, claim_spec: Object, claim: Object) -> Object:
    """A PersistentVolume that is meant for one claim."""
    return {
        "metadata": {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": DRIVER}},
        "spec": {
            "capacity": {"storage": claim_spec["resources"]["requests"]["storage"]},
            "accessModes": claim_spec["accessModes"],
            "volumeMode": "Filesystem",
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": claim_spec.get("storageClassName", ""),
            "csi": {"driver": DRIVER, "volumeHandle": handle},
            "claimRef": {"namespace": claim["namespace"], "name": claim["name"]},
        },
    }


async def _finalizers(client: KubeClient, kind: Resource, found: Object, wanted: list[str]) -> None:
    metadata = found["metadata"]
    if (metadata.get("finalizers") or []) != wanted:
        changes = {"metadata": {"finalizers": wanted}}
        await client.patch(kind, metadata["name"], merge_patch_of(found, changes), metadata.get("namespace"))


async def _status(client: KubeClient, kind: Resource, found: Object, status: dict[str, Any]) -> None:
    there = found.get("status") or {}
    if all(json.dumps(there.get(key)) == json.dumps(value) for key, value in status.items()):
        return
    metadata = found["metadata"]
    await client.patch(
        kind,
        metadata["name"],
        merge_patch_of(found, {"status": status}),
        metadata.get("namespace"),
        subresource="status",
    )


ACTS = ((SNAPSHOTS, _snapshot), (CONTENTS, _content), (CLAIMS, _claim), (VOLUMES, _volume))
