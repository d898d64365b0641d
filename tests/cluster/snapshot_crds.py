"""The kinds of snapshots of volumes, from the files in their Go module."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.cluster.kubectl import Cluster

from phoenix_orch.kernel.errors import Terminal

MODULE = "github.com/kubernetes-csi/external-snapshotter/client/v8"
PINNED = Path(__file__).parent / "storage"
KINDS = ("volumesnapshots", "volumesnapshotcontents", "volumesnapshotclasses")
_served: set[Path] = set()


def install(cluster: Cluster) -> None:
    """Make the cluster serve them, unless it does already. Once for each cluster."""
    if cluster.kubeconfig in _served:
        return
    if f"{KINDS[0]}.snapshot.storage.k8s.io" not in cluster.kubectl("get", "crd", "-o", "name"):
        for kind in KINDS:
            file = _files() / f"snapshot.storage.k8s.io_{kind}.yaml"
            cluster.kubectl("apply", "--server-side", "-f", str(file))
        for kind in KINDS:
            name = f"crd/{kind}.snapshot.storage.k8s.io"
            cluster.kubectl("wait", "--for=condition=Established", name, "--timeout=120s", timeout=130)
    _served.add(cluster.kubeconfig)


def _files() -> Path:
    """Fetched if need be, and compared with `go.sum`. Raises Terminal."""
    go = shutil.which("go")
    if go is None:
        raise Terminal("Go is missing to get the kinds of snapshots", remedy="install Go")
    found = re.search(rf"{re.escape(MODULE)} (v\S+)", (PINNED / "go.mod").read_text("utf-8"))
    assert found is not None
    done = subprocess.run(
        (go, "mod", "download", "-json", f"{MODULE}@{found[1]}"),
        cwd=PINNED,
        env={**os.environ, "GOWORK": "off"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise Terminal(f"the sources of {MODULE} cannot be had: {(done.stderr or done.stdout).strip()}")
    return Path(json.loads(done.stdout)["Dir"]) / "config" / "crd"
