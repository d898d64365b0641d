"""Whole releases with real pods and a real router: Phoenix's processes on the API server, from outside.

A good version is promoted in place and nobody notices; a bad one is taken back, stays latched, and stable is
never touched.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.cluster import rollouts, serving
from tests.cluster.node import shop
from tests.cluster.node.cluster import NodeCluster
from tests.cluster.node.images import SHOP
from tests.cluster.serving import Phoenix, until
from tests.faults.story_users import Users
from tests.integration import real_prometheus
from tests.integration.real_prometheus import Job, RealPrometheus

from phoenix_orch.runtime.valkey_server import ValkeyServer

RATE = 40.0
START_SECONDS = 240.0
"""Three programs start at once, on a machine that may be busy with ten other things."""
NAME = "web"
INGRESS, ROUTE = "ingress", "httpRoute"
SPEC: dict[str, Any] = {
    "workload": {"name": NAME},
    "phases": [
        {"name": "initial", "weight": 20, "duration": "15s", "limits": {"errorRate": "1%"}},
        {"name": "full", "step": 40, "every": "10s", "limits": {"errorRate": "1%"}},
    ],
    "evidence": {"interval": "5s", "window": "15s"},
    "policy": {"bake": "10s", "earlyAdvance": False},
}


@pytest.fixture(scope="module")
def prometheus(node_cluster: NodeCluster) -> Iterator[RealPrometheus]:
    with real_prometheus.running(Job("traefik", node_cluster.metrics_port, {})) as server:
        yield server


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    keeper = ValkeyServer(tmp_path_factory.mktemp("valkey"))
    yield asyncio.run(keeper.ensure()).url
    asyncio.run(keeper.stop())


class Stage:
    """One Deployment with a Rollout, served by Traefik."""

    def __init__(self, cluster: NodeCluster, namespace: str, router: str = INGRESS) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.router = router
        self.host = f"web.{namespace}"

    def set_up(self) -> None:
        rollouts.define(self.cluster)
        if self.router == INGRESS:
            way = shop.ingress(self.namespace, NAME, host=self.host)
        else:
            way = shop.http_route(self.namespace, NAME, host=self.host, weights={NAME: 1})
            way["metadata"]["labels"] = {"phoenix-orch.io/route": NAME}  # it is the user's own
        self.cluster.apply(
            shop.deployment(self.namespace, NAME, replicas=2),
            shop.service(self.namespace, NAME),
            way,
            rollouts.manifest({**SPEC, "traffic": {self.router: NAME}}, NAME, self.namespace),
        )
        self.cluster.rolled_out(self.namespace, NAME)
        until("the shop is served", lambda: self.version() == "v1", 120, self.describe)

    def release(self, tag: str) -> None:
        """As `kubectl apply -f k8s/canary/deployment.yaml` does."""
        self.cluster.apply(shop.deployment(self.namespace, f"{NAME}-canary", image=f"{SHOP}:{tag}"))

    def version(self) -> str:
        url = f"http://127.0.0.1:{self.cluster.web_port}/"
        answer = httpx.get(url, headers={"Host": self.host}, trust_env=False, timeout=10)
        return str(answer.headers.get("X-Shop-Version", answer.status_code))

    def get(self, kind: str, name: str = NAME) -> Any:
        return self.cluster.get(kind, name, "-n", self.namespace)

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.get(rollouts.RESOURCE).get("status", {})
        return status

    def state(self) -> str:
        return str(self.status().get("state", ""))

    def carrier(self) -> Any:
        """The metadata of what carries the weight."""
        kind, name = ("ingress", f"{NAME}-canary") if self.router == INGRESS else ("httproute", NAME)
        return self.get(kind, name)["metadata"]

    def weight(self) -> str:
        weight: str = self.carrier()["labels"]["phoenix-orch.io/weight"]
        return weight

    def images(self, name: str = NAME) -> list[str]:
        spec = self.get("deployment", name)["spec"]["template"]["spec"]
        return [one["image"] for one in spec["containers"]]

    def replicas(self, name: str) -> int:
        return int(self.get("deployment", name)["spec"]["replicas"])

    def phoenix(self, *words: str, status: int = 0) -> str:
        """What `phoenix … --kubernetes` prints, as the administrator."""
        there = ["--kubernetes", f"--kubeconfig={self.cluster.kubeconfig}", f"--namespace={self.namespace}"]
        done = subprocess.run(
            [sys.executable, "-m", "phoenix_orch", *words, *there],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == status, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    def describe(self) -> str:
        return json.dumps(self.status(), indent=1)


@pytest.fixture
def stage(request: pytest.FixtureRequest, node_cluster: NodeCluster, node_namespace: str) -> Stage:
    made = Stage(node_cluster, node_namespace, getattr(request, "param", INGRESS))
    made.set_up()
    return made


@pytest.fixture
def phoenix(stage: Stage, prometheus: RealPrometheus, store: str, tmp_path: Path) -> Iterator[Phoenix]:
    with serving.running(
        tmp_path,
        cluster=stage.cluster,
        namespace=stage.namespace,
        store=store,
        prometheus=prometheus.url,
    ) as processes:
        yield processes


@pytest.mark.timeout(900)
def test_a_good_version_is_promoted_in_place_and_nobody_notices(stage: Stage, phoenix: Phoenix) -> None:
    def told() -> str:
        return f"{stage.describe()}\n{phoenix.tails()}"

    until("Phoenix knows it", lambda: stage.state() == "Idle", START_SECONDS, told)
    with Users(stage.cluster.web_port, RATE, host=stage.host) as users:
        stage.release("v2")
        until("it is released", lambda: stage.state() == "Promoted", 300, told)
        until("the canary is gone", lambda: stage.replicas(f"{NAME}-canary") == 0, 30, told)
    assert users.account.failures == []
    assert {"v1", "v2"} <= set(users.account.by_version)
    assert stage.images() == [f"{SHOP}:v2"]
    assert stage.replicas(NAME) == 2
    assert stage.weight() == "0"
    assert stage.carrier()["annotations"]["nginx.ingress.kubernetes.io/canary-weight"] == "0"
    history = stage.cluster.kubectl("rollout", "history", f"deployment/{NAME}", "-n", stage.namespace)
    assert f"phoenix rollout {NAME}: {SHOP}:v2" in history
    stage.cluster.rolled_out(stage.namespace, NAME)
    verdicts = [line for line in phoenix["health-validator"].lines() if line["event"] == "verdict"]
    assert {"time", "level", "rollout", "revision", "step", "kind", "reason"} <= set(verdicts[0])
    assert "advance" in {line["kind"] for line in verdicts}
    assert serving.refused(stage.cluster, stage.namespace) == []


@pytest.mark.timeout(900)
@pytest.mark.parametrize("stage", [ROUTE], indirect=True)
def test_a_bad_version_is_taken_back_and_stable_is_never_touched(stage: Stage, phoenix: Phoenix) -> None:
    def told() -> str:
        return f"{stage.describe()}\n{phoenix.tails()}"

    until("Phoenix knows it", lambda: stage.state() == "Idle", START_SECONDS, told)
    before = stage.get("deployment")["spec"]
    with Users(stage.cluster.web_port, RATE, host=stage.host) as users:
        stage.release("bad-errors")
        until("it is taken back", lambda: stage.state() == "RolledBack", 300, told)
    assert {failure.version for failure in users.account.failures} == {"bad-errors"}
    assert stage.get("deployment")["spec"] == before
    assert stage.replicas(f"{NAME}-canary") == 0
    assert stage.weight() == "0"
    status = stage.status()
    assert status["cause"]["trigger"] == "verdict"
    assert stage.carrier()["annotations"]["phoenix-orch.io/abort"] == status["cause"]["revision"]
    # R4: asking again for the same brings nothing back
    stage.cluster.kubectl("scale", f"deployment/{NAME}-canary", "--replicas=1", "-n", stage.namespace)
    until("it is sent away again", lambda: stage.replicas(f"{NAME}-canary") == 0, 60, told)
    assert stage.state() == "RolledBack"
    assert stage.weight() == "0"
    assert serving.refused(stage.cluster, stage.namespace) == []


@pytest.mark.timeout(900)
def test_a_persons_abort_needs_nothing_of_phoenix(stage: Stage, phoenix: Phoenix) -> None:
    """All three processes are dead, and the command is told of no store and no Prometheus."""

    def told() -> str:
        return f"{stage.describe()}\n{phoenix.tails()}"

    until("Phoenix knows it", lambda: stage.state() == "Idle", START_SECONDS, told)
    with Users(stage.cluster.web_port, RATE, host=stage.host) as users:
        stage.release("v2")
        until("users get it", lambda: users.account.by_version.get("v2", 0) > 0, 120, told)
        for component in serving.COMPONENTS:
            phoenix[component].end(signal.SIGKILL)
        said = stage.phoenix("rollout", "abort", NAME, "--reason", "the shop is empty")
        assert "is latched with weight 0" in said
        assert stage.weight() == "0"
        assert stage.carrier()["annotations"]["phoenix-orch.io/abort"]
        phoenix["orchestrator"].start()
        until("Phoenix ends it", lambda: stage.state() == "RolledBack", 120, told)
    assert users.account.failures == []
    cause = stage.status()["cause"]
    assert cause["trigger"] == "person"
    assert "the shop is empty" in cause["reason"]
    assert "RolledBack" in stage.phoenix("rollout", "status", NAME, status=4)
    assert stage.images() == [f"{SHOP}:v1"]
