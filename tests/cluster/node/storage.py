"""Storage for the pods of a node: volumes for claims, and snapshots of them.

The provisioner, the snapshotter and the snapshot controller are those that clusters run, as processes beside
kubelet: there is no registry to pull their images from. The CSI driver is the tests' own, `storage/driver`,
since the hostpath driver cannot be had as a Go module everywhere; kubelet and the others speak CSI with it
as with any, and `csi-sanity` says that it is one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster import programs, snapshot_crds
from tests.cluster.awaiting import eventually
from tests.cluster.node import settings
from tests.cluster.node.cluster import NodeCluster

DRIVER = "folders.csi.phoenix.test"
CLASS = "folders"
"""Of volumes, and of snapshots."""
_SOCKET = "/run/csi.sock"
"""In the node's own /run."""
_QUICK = ("--retry-interval-start=200ms", "--retry-interval-max=2s")
"""A test waits for the second try."""


@dataclass(frozen=True, slots=True)
class Storage:
    """What the driver keeps."""

    root: Path

    def snapshots(self) -> set[str]:
        """The handles of the snapshots that it has."""
        return {path.name for path in (self.root / "snapshots").iterdir()}

    def refuse_snapshots(self, why: str) -> None:
        """Every new one ends with this error; with none when it is empty."""
        file = self.root / "refuse-snapshots"
        if why:
            file.write_text(why, "utf-8")
        else:
            file.unlink(missing_ok=True)


def prepare() -> None:
    """Build what is missing. Raises Terminal."""
    programs.find(programs.STORAGE)


def prepare_sanity() -> dict[str, Path]:
    """The driver, and what tells whether it is one. Raises Terminal."""
    return programs.find(["csi-driver", *programs.SANITY])


def start(cluster: NodeCluster) -> Storage:
    """Run all of it, and wait until kubelet knows the driver; it ends with the cluster."""
    found = programs.find(programs.STORAGE)
    root = cluster.folder / "csi"
    root.mkdir()
    snapshot_crds.install(cluster)
    cluster.apply(*objects())
    registry = cluster.folder / "kubelet" / "plugins_registry" / "csi.sock"  # a path of sockets is short
    driver = [f"-name={DRIVER}", f"-node={settings.NAME}", f"-root={root}"]
    driver += [f"-socket={_SOCKET}", f"-registration={registry}"]
    kubeconfig = f"--kubeconfig={cluster.user('storage', ['system:masters'])}"
    calling = [kubeconfig, f"--csi-address={_SOCKET}", *_QUICK]
    cluster.begin("csi-driver", found["csi-driver"], driver)
    cluster.begin("snapshot-controller", found["snapshot-controller"], [kubeconfig, *_QUICK])
    cluster.begin("csi-snapshotter", found["csi-snapshotter"], calling)
    cluster.begin("csi-provisioner", found["csi-provisioner"], calling)
    eventually("kubelet knows the driver", lambda: DRIVER in drivers(cluster), 240)
    return Storage(root)


def drivers(cluster: NodeCluster) -> set[str]:
    """The CSI drivers of the node."""
    nodes = cluster.get("csinodes")["items"]
    return {one["name"] for node in nodes for one in node["spec"].get("drivers") or []}


def objects() -> list[dict[str, Any]]:
    """The driver, and classes as most clusters have them: a volume is made when a pod wants it."""
    return [
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "CSIDriver",
            "metadata": {"name": DRIVER},
            "spec": {
                "attachRequired": False,
                "podInfoOnMount": False,
                "fsGroupPolicy": "File",
                "volumeLifecycleModes": ["Persistent"],
            },
        },
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": CLASS},
            "provisioner": DRIVER,
            "reclaimPolicy": "Delete",
            "volumeBindingMode": "WaitForFirstConsumer",
        },
        {
            "apiVersion": "snapshot.storage.k8s.io/v1",
            "kind": "VolumeSnapshotClass",
            "metadata": {"name": CLASS},
            "driver": DRIVER,
            "deletionPolicy": "Delete",
        },
    ]
