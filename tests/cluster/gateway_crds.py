"""The kinds of the Gateway API, from the files in its Go module."""

from __future__ import annotations

from pathlib import Path

from tests.cluster import programs
from tests.cluster.kubectl import Cluster

MODULE = "sigs.k8s.io/gateway-api"
_served: set[Path] = set()


def install(cluster: Cluster) -> None:
    """Make the cluster serve them, unless it does already: one that is given keeps its own version. Once for
    each cluster."""
    if cluster.kubeconfig not in _served:
        _install(cluster)
        _served.add(cluster.kubeconfig)


def _install(cluster: Cluster) -> None:
    if "httproutes.gateway.networking.k8s.io" in cluster.kubectl("get", "crd", "-o", "name"):
        return
    files = programs.sources(MODULE) / "config" / "crd" / "standard"
    cluster.kubectl("apply", "--server-side", "-f", str(files))
    for kind in ("httproutes", "grpcroutes", "gateways", "gatewayclasses"):
        name = f"crd/{kind}.gateway.networking.k8s.io"
        cluster.kubectl("wait", "--for=condition=Established", name, "--timeout=30s")
