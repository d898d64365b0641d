"""A Deployment with a Rollout on a control plane without nodes, and Phoenix's orchestrator beside it.

Pods are said to be ready by a kubelet that only writes statuses. No request is ever sent: a share counts as
seen when the object that carries it has stood for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.cluster import deployments, rollouts, serving
from tests.cluster.kubectl import Cluster
from tests.cluster.pods import Kubelet
from tests.cluster.serving import Phoenix, until

from phoenix_orch.cli import main
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.config import load

NAME = "shop"
PATIENCE = 240.0
"""Seconds for what takes one or two on a machine that has nothing else to do."""
SPEC: dict[str, Any] = {
    "workload": {"name": NAME},
    "traffic": {"ingress": NAME},
    "phases": [{"name": "only", "weight": 20, "duration": "1h"}],
    "policy": {"bake": "0s"},
}
"""A person ends its one step: there is nothing to judge by."""


def service(namespace: str) -> dict[str, Any]:
    """Its pods are on no node, and would be no endpoints of it otherwise."""
    made = deployments.service(namespace)
    return {**made, "spec": {**made["spec"], "publishNotReadyAddresses": True}}


def ingress(namespace: str) -> dict[str, Any]:
    backend = {"service": {"name": NAME, "port": {"number": 80}}}
    path = {"path": "/", "pathType": "Prefix", "backend": backend}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": NAME, "namespace": namespace},
        "spec": {"rules": [{"host": f"{NAME}.{namespace}", "http": {"paths": [path]}}]},
    }


class Stand:
    """One namespace."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace

    def set_up(self, *, stable: dict[str, Any] | None = None, **policy: Any) -> None:
        rollouts.define(self.cluster)
        spec = {**SPEC, "policy": {**SPEC["policy"], **policy}}
        self.cluster.apply(
            stable or deployments.shop(self.namespace, replicas=2),
            service(self.namespace),
            ingress(self.namespace),
            rollouts.manifest(spec, NAME, self.namespace),
        )

    def release(self, image: str = "shop:2") -> None:
        """As `kubectl apply -f k8s/canary/deployment.yaml` does."""
        self.cluster.apply(canary(self.namespace, image))

    def get(self, kind: str, name: str = NAME) -> Any:
        return self.cluster.get(kind, name, "-n", self.namespace)

    def names(self, kind: str) -> set[str]:
        found = self.cluster.get(kind, "-n", self.namespace)["items"]
        return {one["metadata"]["name"] for one in found}

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.get(rollouts.RESOURCE).get("status", {})
        return found

    def state(self) -> str:
        return str(self.status().get("state", ""))

    def image(self, name: str = NAME) -> str:
        return str(self.get("deployment", name)["spec"]["template"]["spec"]["containers"][0]["image"])

    def replicas(self, name: str) -> int:
        return int(self.get("deployment", name)["spec"]["replicas"])

    def weight(self) -> str:
        return str(self.get("ingress", f"{NAME}-canary")["metadata"]["labels"]["phoenix-orch.io/weight"])

    def until_state(self, wanted: str, phoenix: Phoenix) -> None:
        def told() -> str:
            return f"{json.dumps(self.status(), indent=1)}\n{phoenix.tails()}"

        until(f"it is {wanted}", lambda: self.state() == wanted, PATIENCE, told)

    def phoenix(self, *words: str, status: int = 0) -> str:
        """What `phoenix … --kubernetes` prints, as the administrator; of an error, what it complains of."""
        there = ["--kubernetes", f"--kubeconfig={self.cluster.kubeconfig}", f"--namespace={self.namespace}"]
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            found = main.run([*words, *there])
        assert found == status, f"{out.getvalue()}\n{err.getvalue()}"
        return out.getvalue() + (err.getvalue() if status else "")


def canary(namespace: str, image: str = "shop:2") -> dict[str, Any]:
    """A canary of one's own. Its replicas are Phoenix's."""
    made = deployments.shop(namespace, replicas=1, image=image)
    made["metadata"] = {"name": f"{NAME}-canary", "namespace": namespace}
    made["spec"]["selector"] = {"matchLabels": {"app": f"{NAME}-canary"}}
    made["spec"]["template"]["metadata"]["labels"] = {"app": f"{NAME}-canary"}
    return made


@contextlib.contextmanager
def orchestrated(stand: Stand, folder: Path, store: str) -> Iterator[Phoenix]:
    """With a kubelet and the orchestrator, which has the rights of its Deployment."""
    rollouts.define(stand.cluster)
    with (
        kubelet(stand),
        serving.running(
            folder,
            cluster=stand.cluster,
            namespace=stand.namespace,
            store=store,
            components=("orchestrator",),
        ) as processes,
    ):
        yield processes


@contextlib.contextmanager
def kubelet(stand: Stand) -> Iterator[None]:
    """In a thread: those who wait for pods wait in this one."""
    over = threading.Event()

    async def run() -> None:
        target = load(stand.cluster.kubeconfig, namespace=stand.namespace)
        async with KubeClient(target) as client, Kubelet(client, stand.namespace).running():
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=lambda: asyncio.run(run()), name="kubelet")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
