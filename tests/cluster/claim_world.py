"""Claims with a storage that takes snapshots, and a Phoenix that backs them up into a folder."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.backup_stage import IDENTITY, OFFLINE
from tests.cluster import snapshot_crds
from tests.cluster.job_node import JobNode
from tests.cluster.kubectl import Cluster
from tests.cluster.snapshot_controller import DRIVER, Storage, playing, volume

from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.config import load
from phoenix_orch.kube.resources import Object
from phoenix_orch.orchestrator.backups import Backups
from phoenix_orch.orchestrator.cluster.backing_up import home_in
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.recovery import prune
from phoenix_orch.recovery.cluster_spec import ClusterBackupSpec
from phoenix_orch.recovery.manifest import Trigger, TriggerKind
from phoenix_orch.recovery.publish import Published
from phoenix_orch.recovery.retention import Limits, Policy
from phoenix_orch.recovery.signing import signing_key
from phoenix_orch.recovery.sources.snapshot_plan import CLAIMS, VOLUMES

SHOP, FAST = "volume/shop", "fast"
CLASS = {
    "apiVersion": "snapshot.storage.k8s.io/v1",
    "kind": "VolumeSnapshotClass",
    "metadata": {"name": "fast"},
    "driver": DRIVER,
    "deletionPolicy": "Delete",
}


def storage_class(name: str, policy: str) -> dict[str, Any]:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name},
        "provisioner": DRIVER,
        "reclaimPolicy": policy,
    }


def spec_in(folder: Path, claims: Mapping[str, Any]) -> ClusterBackupSpec:
    """Of a phoenix.yaml whose files lie in a folder."""
    return ClusterBackupSpec.model_validate(section(folder, claims))


def section(folder: Path, claims: Mapping[str, Any]) -> dict[str, Any]:
    """`backup` of it."""
    (folder / "online.key").write_text(f"{IDENTITY.key}\n")
    signing_key(folder / "signing.pem", make=True)
    return {
        "cluster": "test",
        "storage": {"folder": str(folder / "bucket")},
        "signingKeyFile": str(folder / "signing.pem"),
        "identityFile": str(folder / "online.key"),
        "recipients": [
            {"name": "here", "key": IDENTITY.public},
            {"name": "safe", "key": OFFLINE.public, "offline": True},
        ],
        "claims": dict(claims),
    }


def backups_in(folder: Path, kubeconfig: Path, namespace: str, claims: Mapping[str, Any]) -> Backups:
    spec = spec_in(folder, claims)
    target = load(kubeconfig, namespace=namespace)
    return Backups(spec, Layout(folder / "state"), by="test", home=home_in(target)(spec))


@dataclass
class ClaimWorld:
    """One namespace. What blocks runs in a thread, since the storage plays in this event loop."""

    cluster: Cluster
    kube: KubeClient
    namespace: str
    storage: Storage
    node: JobNode
    folder: Path

    def backups(self, **claims: Any) -> Backups:
        """`claims`: as phoenix.yaml has them; left out: `data` as `volume/shop`."""
        return backups_in(
            self.folder, self.cluster.kubeconfig, self.namespace, claims or {"shop": {"claim": "data"}}
        )

    async def run(self, component: str = SHOP, backups: Backups | None = None) -> Published:
        made = backups or self.backups()
        trigger = Trigger(kind=TriggerKind.MANUAL, actor="test")
        published = await asyncio.to_thread(made.run, component, trigger)
        assert published is not None
        return published

    async def claim(self, name: str, labels: Mapping[str, str] = {}) -> Object:
        return await claimed(self.kube, self.namespace, name, labels)


async def claimed(
    kube: KubeClient,
    namespace: str,
    name: str,
    labels: Mapping[str, str] = {},
) -> Object:
    """A claim with its volume."""
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": FAST,
        "resources": {"requests": {"storage": "1Gi"}},
    }
    pv = f"pv-{namespace}-{name}"
    await kube.create(VOLUMES, volume(pv, f"handle-{pv}", spec, {"namespace": namespace, "name": name}))
    metadata = {"name": name, "namespace": namespace, "labels": dict(labels)}
    return await kube.create(CLAIMS, {"metadata": metadata, "spec": {**spec, "volumeName": pv}})


@contextlib.asynccontextmanager
async def claim_world(
    cluster: Cluster, kube: KubeClient, namespace: str, folder: Path
) -> AsyncIterator[ClaimWorld]:
    """With the claim `data`."""
    snapshot_crds.install(cluster)
    cluster.apply(CLASS, storage_class(FAST, "Delete"), storage_class("keeps", "Retain"))
    await claimed(kube, namespace, "data")
    async with playing(kube) as storage, JobNode(kube, namespace).running() as node:
        yield ClaimWorld(cluster, kube, namespace, storage, node, folder)


def pruned(
    backups: Backups, component: str, ahead: timedelta, told: Any = lambda _: None, last: int = 1
) -> prune.Pruned:
    """Keep the newest so many, at a time so far ahead."""
    (view,) = backups.views(component)
    now = datetime.now(UTC) + ahead
    planned = prune.plan(view, Policy(0, 0, 0, last), Limits(), now, now)
    assert planned.stop == ""
    volumes = backups.home.volumes
    assert volumes is not None
    pruner = prune.Pruner(
        backups.store, backups.signer, lambda: now, "test", told=told, outside=volumes.outside
    )
    return pruner.run(view, planned)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(folder: str, kubeconfig: str, namespace: str, days: str, wanted: str) -> None:
    """The process that prunes and is killed: at a step, or after the Nth write to the cluster (`write 2`)."""
    word, _, number = wanted.partition(" ")
    if word == "write" and number.isdecimal():
        _die_after(int(number))

    def told(step: prune.Step) -> None:
        if step == wanted:
            die()

    backups = backups_in(Path(folder), Path(kubeconfig), namespace, {"shop": {"claim": "data"}})
    pruned(backups, SHOP, timedelta(days=int(days)), told)


def _die_after(count: int) -> None:
    """Of the process's writes to the cluster."""
    left = count
    for name in ("create", "patch", "delete"):
        real = getattr(KubeClient, name)

        async def counted(self: KubeClient, *words: Any, real: Any = real, **more: Any) -> Any:
            nonlocal left
            done = await real(self, *words, **more)
            left -= 1
            if left == 0:
                die()
            return done

        setattr(KubeClient, name, counted)


if __name__ == "__main__":
    main(*sys.argv[1:])
