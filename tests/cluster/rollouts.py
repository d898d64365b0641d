"""Rollouts as objects of a cluster: the definition in place, and the API server's word without kubectl."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
from tests.cluster import programs
from tests.cluster.awaiting import eventually
from tests.cluster.kubectl import Cluster

from phoenix_orch.rollout import crd

RESOURCE = crd.NAME


_defined: set[Path] = set()


def define(cluster: Cluster) -> None:
    """The custom resource definition, served; once for each cluster."""
    if cluster.kubeconfig not in _defined:
        cluster.apply(crd.definition())
        established(cluster)
        _defined.add(cluster.kubeconfig)


def established(cluster: Cluster) -> None:
    """Wait until Rollouts are served. `kubectl wait` fails on a definition without a status yet."""

    def served() -> bool:
        conditions = cluster.get("crd", RESOURCE).get("status", {}).get("conditions") or []
        return {one["type"]: one["status"] for one in conditions}.get("Established") == "True"

    eventually("Rollouts are served", served)


def manifest(spec: Mapping[str, Any], name: str = "shop", namespace: str = "default") -> dict[str, Any]:
    return {
        "apiVersion": f"{crd.GROUP}/{crd.VERSION}",
        "kind": crd.KIND,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


LEAST: Mapping[str, Any] = {"workload": {"name": "shop"}, "traffic": {"ingress": "shop"}}


class Door:
    """The API server by HTTP: a create takes some milliseconds, where kubectl takes a hundred."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def refusal(self, spec: Mapping[str, Any], name: str = "shop") -> str:
        """What the API server says against creating this rollout, which it does not: empty if nothing."""
        answer = self._client.post(
            f"/apis/{crd.GROUP}/{crd.VERSION}/namespaces/default/{crd.PLURAL}",
            params={"dryRun": "All", "fieldValidation": "Strict"},
            json=manifest(spec, name),
        )
        if answer.status_code == httpx.codes.CREATED:
            return ""
        assert answer.status_code in (400, 422), answer.text
        return str(answer.json()["message"])


@contextlib.contextmanager
def door(cluster: Cluster) -> Iterator[Door]:
    """Through `kubectl proxy`, which knows every way to log in, on a socket of our own."""
    with tempfile.TemporaryDirectory(prefix="phoenix-") as folder:
        path = Path(folder) / "s"
        words = ["proxy", f"--unix-socket={path}"]
        process = subprocess.Popen(
            [str(programs.kubectl()), "--kubeconfig", str(cluster.kubeconfig), *words],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("Starting to serve")
            transport = httpx.HTTPTransport(uds=str(path))
            with httpx.Client(transport=transport, base_url="http://localhost", timeout=30) as client:
                yield Door(client)
        finally:
            process.terminate()
            process.communicate(timeout=30)
