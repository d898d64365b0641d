"""Two replicas of the orchestrator that answer the API, and people with tokens of the cluster."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from tests.cluster import serving
from tests.cluster.plane import ControlPlane
from tests.cluster.serving import Component, until
from tests.cluster.stand import NAME, PATIENCE, Stand, kubelet

from phoenix_orch.runtime.valkey_server import ValkeyServer

API = "rbac.authorization.k8s.io"
VERBS = {"viewer": ["read"], "operator": ["read", "operate"], "admin": ["administer"], "stranger": []}
NAMESPACE = "shops"


@contextlib.contextmanager
def a_store(folder: Path) -> Iterator[str]:
    """The address of a Valkey."""
    with a_keeper(folder) as keeper:
        yield asyncio.run(keeper.ensure()).url


@contextlib.contextmanager
def a_keeper(folder: Path) -> Iterator[ValkeyServer]:
    """Of a Valkey that may be stopped and started again; it does not run when this is left."""
    keeper = ValkeyServer(folder)
    try:
        yield keeper
    finally:
        asyncio.run(keeper.stop())


class Replica:
    """One process, called as somebody."""

    def __init__(self, component: Component) -> None:
        self.component = component

    @property
    def url(self) -> str:
        text = self.component.log.read_text("utf-8")
        lines = [json.loads(line) for line in text.splitlines() if line.startswith('{"time"')]
        found = [one for one in lines if one["event"] == "answers the API"]
        return f"http://127.0.0.1:{found[-1]['port']}"

    @property
    def answers(self) -> bool:
        try:
            return self.call("/healthz/ready", "").status_code == 200
        except (httpx.TransportError, IndexError, FileNotFoundError):
            return False

    def call(
        self,
        path: str,
        token: str,
        body: Any = None,
        scheme: str = "Bearer",
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """POST where there is a body."""
        headers = {**(headers or {}), **({"Authorization": f"{scheme} {token}"} if token else {})}
        verb = "GET" if body is None else "POST"
        with httpx.Client(base_url=self.url, headers=headers, timeout=30, trust_env=False) as client:
            return client.request(verb, path, json=body)

    def leads(self, token: str) -> bool:
        components = self.call("/api/v1/health", token).json()["components"]
        return any(one.get("role") == "leads" for one in components)


class Replicas:
    """Two replicas, and people with tokens."""

    def __init__(self, stand: Stand, folder: Path, store: str, *more: str) -> None:
        self.stand = stand
        cluster, namespace = stand.cluster, stand.namespace
        cluster.apply(*serving.rights(namespace), *people(namespace))
        kubeconfig = cluster.service_account(namespace, "master-orchestrator")
        words = ["--kubernetes", f"--namespace={namespace}", f"--store={store}", f"--kubeconfig={kubeconfig}"]
        self.replicas = []
        for name in ("one", "two"):
            (folder / name).mkdir()
            own = {"TMPDIR": str(folder / name)}  # pods share no disk
            made = Component("orchestrator", [*words, *more, "--listen=127.0.0.1:0"], folder / name, own)
            self.replicas.append(Replica(made))
        self.tokens = {name: self.token(name) for name in VERBS}

    def token(self, name: str, *more: str) -> str:
        words = ["create", "token", name, "--namespace", self.stand.namespace, "--duration", "1h", *more]
        return self.stand.cluster.kubectl(*words).strip()

    def tails(self) -> str:
        return "\n".join(one.component.tail() for one in self.replicas)

    def until(self, what: str, condition: Any) -> None:
        until(what, condition, PATIENCE, self.tails)

    def until_state(self, wanted: str) -> None:
        self.until(f"it is {wanted}", lambda: self.stand.state() == wanted)

    def word(self, replica: Replica, kind: str, reason: str = "a test") -> httpx.Response:
        body = {"kind": kind, "reason": reason}
        return replica.call(f"/api/v1/rollouts/{NAME}/commands", self.tokens["operator"], body)


def people(namespace: str) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for name, verbs in VERBS.items():
        metadata = {"name": name, "namespace": namespace}
        made.append({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
        if not verbs:
            continue
        rule = {"apiGroups": ["phoenix-orch.io"], "resources": ["api"], "verbs": verbs}
        made.append({"apiVersion": f"{API}/v1", "kind": "Role", "metadata": metadata, "rules": [rule]})
        made.append(
            {
                "apiVersion": f"{API}/v1",
                "kind": "RoleBinding",
                "metadata": metadata,
                "roleRef": {"apiGroup": API, "kind": "Role", "name": name},
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
            }
        )
    return made


@contextlib.contextmanager
def replicas(plane: ControlPlane, folder: Path, store: str, *more: str) -> Iterator[Replicas]:
    """Both answer. `more`: words of their command line."""
    plane.kubectl("create", "namespace", NAMESPACE)
    stand = Stand(plane, NAMESPACE)
    stand.set_up()
    made = Replicas(stand, folder, store, *more)
    with kubelet(stand):
        try:
            for one in made.replicas:
                one.component.start()
            made.until("both answer", lambda: all(one.answers for one in made.replicas))
            yield made
        finally:
            for one in made.replicas:
                one.component.end()
