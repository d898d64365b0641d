"""The API of the orchestrator's replicas in a cluster, called by people whom the cluster's rules let in."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.cluster import serving
from tests.cluster.plane import ControlPlane
from tests.cluster.serving import Component, until
from tests.cluster.stand import NAME, PATIENCE, Stand, kubelet

from phoenix_orch.runtime.valkey_server import ValkeyServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
API = "rbac.authorization.k8s.io"
VERBS = {"viewer": ["read"], "operator": ["read", "operate"], "stranger": []}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[str]:
    keeper = ValkeyServer(tmp_path / "valkey")
    yield asyncio.run(keeper.ensure()).url
    asyncio.run(keeper.stop())


class Replica:
    """One process, called as somebody."""

    def __init__(self, component: Component) -> None:
        self.component = component

    @property
    def url(self) -> str:
        found = [one for one in self.component.lines() if one["event"] == "answers the API"]
        return f"http://127.0.0.1:{found[-1]['port']}"

    @property
    def answers(self) -> bool:
        try:
            return self.call("/healthz/ready", "").status_code == 200
        except (httpx.TransportError, IndexError, FileNotFoundError):
            return False

    def call(self, path: str, token: str, body: Any = None, scheme: str = "Bearer") -> httpx.Response:
        headers = {"Authorization": f"{scheme} {token}"} if token else {}
        verb = "GET" if body is None else "POST"
        with httpx.Client(base_url=self.url, headers=headers, timeout=30, trust_env=False) as client:
            return client.request(verb, path, json=body)

    def leads(self, token: str) -> bool:
        components = self.call("/api/v1/health", token).json()["components"]
        return any(one.get("role") == "leads" for one in components)


class World:
    """Two replicas, and people with tokens."""

    def __init__(self, stand: Stand, folder: Path, store: str) -> None:
        self.stand = stand
        cluster, namespace = stand.cluster, stand.namespace
        cluster.apply(*serving.rights(namespace), *people(namespace))
        kubeconfig = cluster.service_account(namespace, "master-orchestrator")
        words = ["--kubernetes", f"--namespace={namespace}", f"--store={store}", f"--kubeconfig={kubeconfig}"]
        self.replicas = []
        for name in ("one", "two"):
            (folder / name).mkdir()
            made = Component("orchestrator", [*words, "--listen=127.0.0.1:0"], folder / name)
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


@pytest.fixture
def world(control_plane: ControlPlane, tmp_path: Path, store: str) -> Iterator[World]:
    namespace = "shops"
    control_plane.kubectl("create", "namespace", namespace)
    stand = Stand(control_plane, namespace)
    stand.set_up()
    made = World(stand, tmp_path, store)
    with kubelet(stand):
        try:
            for one in made.replicas:
                one.component.start()
            made.until("both answer", lambda: all(one.answers for one in made.replicas))
            yield made
        finally:
            for one in made.replicas:
                one.component.end()


def test_a_release_by_the_api_of_any_replica(world: World) -> None:
    stand, operator = world.stand, world.tokens["operator"]
    world.until_state("Idle")
    _only_who_may(world)
    world.until("one leads", lambda: any(one.leads(operator) for one in world.replicas))
    leader, other = sorted(world.replicas, key=lambda one: not one.leads(operator))

    # through the one that does not lead, with a token that is good for nothing else
    own = world.token("operator", "--audience", "phoenix-orch.io")
    would = other.call(f"/api/v1/rollouts/{NAME}/start", own, {"version": "shop:2", "dryRun": True})
    assert would.status_code == 200, would.text
    assert stand.names("deployment") == {NAME}
    begun = other.call(f"/api/v1/rollouts/{NAME}/start", own, {"version": "shop:2", "changeCause": "newer"})
    assert begun.status_code == 200, begun.text
    made = stand.get("deployment", f"{NAME}-canary")
    actor = f"system:serviceaccount:{stand.namespace}:operator"
    assert actor in made["metadata"]["annotations"]["kubernetes.io/change-cause"]
    world.until("its share is written", lambda: stand.state() == "Progressing" and stand.weight() == "20")
    assert world.word(other, "pause").status_code == 202
    world.until_state("Paused")
    assert world.word(other, "pause").status_code == 409
    world.until(
        "the replica shows it",
        lambda: (
            other.call(f"/api/v1/rollouts/{NAME}", operator).json()["rollout"]["status"]["state"] == "Paused"
        ),
    )

    # nobody leads: it reads and takes traffic away all the same
    leader.component.end(signal.SIGKILL)
    aborted = world.word(other, "abort", "enough")
    assert aborted.status_code == 202, aborted.text
    assert stand.weight() == "0"
    assert aborted.json()["actor"] == actor
    world.until_state("RolledBack")  # the other one leads by now
    undone = other.call(f"/api/v1/rollouts/{NAME}/undo", operator, {})
    assert undone.status_code == 409
    assert "taken back already" in undone.json()["detail"]

    # again, to its end, and back
    assert world.word(other, "retry").status_code == 202
    world.until("it is released again", lambda: stand.state() == "Progressing" and stand.weight() == "20")
    assert world.word(other, "promote-full").status_code == 202
    world.until_state("Promoted")
    assert stand.image() == "shop:2"
    assert other.call(f"/api/v1/rollouts/{NAME}/undo", operator, {}).status_code == 200
    assert stand.image() == "shop:1"
    denied = serving.refused(world.stand.cluster, stand.namespace)  # type: ignore[arg-type]
    assert denied == []


def _only_who_may(world: World) -> None:
    path = f"/api/v1/rollouts/{NAME}"
    for replica in world.replicas:
        statuses = {name: replica.call(path, token).status_code for name, token in world.tokens.items()}
        assert statuses == {"viewer": 200, "operator": 200, "stranger": 403}
        assert replica.call(path, "").status_code == 401
        assert replica.call(path, "made-up").status_code == 401
        assert replica.call(path, world.tokens["operator"], scheme="Basic").status_code == 401
        pause = {"kind": "pause"}
        assert replica.call(f"{path}/commands", world.tokens["viewer"], pause).status_code == 403
    assert world.stand.state() == "Idle"
