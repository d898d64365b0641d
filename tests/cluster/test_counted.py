"""What a release waits for, told in the Rollout: a metric that nobody knows, a router that does not obey, an
address that nobody knows.

Phoenix's processes on a real API server and a real Prometheus; the router is a page of counters.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import debian
from tests.cluster import rollouts, routing, serving
from tests.cluster.node import shop
from tests.cluster.plane import ControlPlane
from tests.cluster.pods import Kubelet
from tests.cluster.serving import Phoenix
from tests.integration import real_prometheus
from tests.integration.real_prometheus import Job, RealPrometheus

from phoenix_orch.kernel.errors import Terminal
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.runtime.valkey_server import ValkeyServer

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(900)]

NAME = "web"
SPEC: dict[str, Any] = {
    "workload": {"name": NAME},
    "traffic": {"ingress": NAME},
    "phases": [{"name": "all", "weight": 20, "duration": "1h"}],
    "evidence": {
        "interval": "5s",
        "business": [{"name": "orders", "counter": "orders_total", "minPerRequest": 0.001}],
    },
}
START = 300.0
"""Seconds. Three programs start at once, on a machine that may be busy with ten other things."""
PACE = 200
"""Requests between two scrapes."""


class Page:
    """What Prometheus scrapes: a Traefik that sends some share to the canary, and perhaps a counter."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.share = 0
        self.orders = False
        self._sent = [0, 0]

    def text(self) -> bytes:
        canary = PACE * self.share // 100
        self._sent = [self._sent[0] + canary, self._sent[1] + PACE - canary]
        lines = ["process_start_time_seconds 1000000"]
        for number, end in zip(self._sent, ("-canary", ""), strict=True):
            name = f"{self.namespace}-{NAME}-{NAME}-80{end}@kubernetesingressnginx"
            labels = f'code="200",method="GET",protocol="http",service="{name}"'
            lines.append(f"traefik_service_requests_total{{{labels}}} {number}")
        if self.orders:
            lines.append("orders_total 0")
        return "\n".join([*lines, ""]).encode()


@pytest.fixture
def page(namespace: str) -> Page:
    return Page(namespace)


@pytest.fixture
def prometheus(page: Page, namespace: str) -> Iterator[RealPrometheus]:
    try:
        debian.program("prometheus", "prometheus")
    except Terminal as missing:
        pytest.skip(str(missing))
    with (
        real_prometheus.page(page.text) as port,
        real_prometheus.running(Job("traefik", port, {"namespace": namespace})) as server,
    ):
        yield server


@pytest.fixture
async def phoenix(
    cluster: ControlPlane, namespace: str, prometheus: RealPrometheus, tmp_path: Path
) -> AsyncIterator[Phoenix]:
    rollouts.define(cluster)
    keeper = ValkeyServer(tmp_path / "valkey")
    store = (await keeper.ensure()).url
    try:
        with serving.running(
            tmp_path,
            cluster=cluster,
            namespace=namespace,
            store=store,
            prometheus=prometheus.url,
            counted=True,
        ) as processes:
            yield processes
    finally:
        await keeper.stop()


class Stage:
    """One Deployment with a Rollout."""

    def __init__(self, cluster: ControlPlane, namespace: str, phoenix: Phoenix) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.phoenix = phoenix

    def apply(self, *objects: dict[str, Any]) -> None:
        self.cluster.apply(*objects)

    def status(self) -> dict[str, Any]:
        found = self.cluster.get(rollouts.RESOURCE, NAME, "-n", self.namespace)
        status: dict[str, Any] = found.get("status", {})
        return status

    def condition(self, kind: str) -> dict[str, Any]:
        conditions = {one["type"]: one for one in self.status()["conditions"]}
        found: dict[str, Any] = conditions[kind]
        return found

    def weight(self) -> str:
        found = self.cluster.get("ingress", f"{NAME}-canary", "-n", self.namespace)
        return str(found["metadata"]["annotations"].get("nginx.ingress.kubernetes.io/canary-weight"))

    def weights(self) -> list[str]:
        """Of both canary Ingresses, once they are there."""
        found = self.cluster.get("ingress", "-n", self.namespace, "-l", "phoenix-orch.io/route")
        canary = "nginx.ingress.kubernetes.io/canary-weight"
        return [str(one["metadata"]["annotations"].get(canary)) for one in found["items"]]

    async def until(self, what: str, holds: Callable[[dict[str, Any]], bool], seconds: float = 120.0) -> None:
        give_up = time.monotonic() + seconds
        while not holds(status := await asyncio.to_thread(self.status)):
            told = f"{json.dumps(status)}\n{self.phoenix.tails()}"
            assert time.monotonic() < give_up, f"not within {seconds} s: {what}\n{told}"
            await asyncio.sleep(0.2)


async def test_a_release_waits_visibly_for_a_metric_and_then_for_the_router(
    cluster: ControlPlane, namespace: str, kube: KubeClient, phoenix: Phoenix, page: Page
) -> None:
    stage = Stage(cluster, namespace, phoenix)
    async with Kubelet(kube, namespace).running():
        stage.apply(
            shop.deployment(namespace, NAME),
            shop.service(namespace, NAME),
            shop.ingress(namespace, NAME, host="web.test"),
            rollouts.manifest(SPEC, NAME, namespace),
        )
        await stage.until("stable serves", lambda status: status.get("state") == "Idle", START)

        stage.apply(shop.deployment(namespace, f"{NAME}-canary", image="shop:v2"))
        unknown = "MetricUnknown"
        await stage.until(
            "it waits for the metric", lambda status: status.get("obstacle", {}).get("reason") == unknown
        )
        assert "counter orders_total" in stage.status()["obstacle"]["message"]
        said = stage.condition("Progressing")
        assert (said["status"], said["reason"]) == ("False", unknown)
        assert stage.status()["weight"] == 0

        page.orders = True
        no_endpoint = "has no ready endpoint"
        await stage.until("it says why there is no weight", lambda status: no_endpoint in status["message"])
        await routing.serving(kube, NAME, f"{NAME}-canary")
        await stage.until("it has begun", lambda status: status["state"] == "Progressing")
        assert "obstacle" not in stage.status()
        lags = "the data plane does not send 20 %"
        await stage.until("the router is seen to lag", lambda status: lags in status["message"])
        assert "stepClock" not in stage.status()
        assert stage.weight() == "20", "the object says so all the while"

        page.share = 20
        await stage.until("the clock starts", lambda status: "stepClock" in status, 180.0)
    assert "RouterLags" in {line.get("reason") for line in phoenix["orchestrator"].lines()}


async def test_a_release_waits_for_what_users_call_and_a_check_of_it_clears_every_ingress(
    cluster: ControlPlane, namespace: str, kube: KubeClient, phoenix: Phoenix
) -> None:
    """`{route}`, and a Rollout with two Ingresses."""
    stage, answer = Stage(cluster, namespace, phoenix), [b"all is well"]
    check = {"url": "{route}/ping", "contains": "well"}
    spec = {
        **SPEC,
        "traffic": {"ingress": NAME, "additional": ["mobile"]},
        "evidence": {"interval": "5s"},
        "checks": [{"name": "ping", "http": check, "interval": "1s", "threshold": 2}],
    }
    mobile = shop.ingress(namespace, NAME, host="m.web.test")
    mobile["metadata"]["name"] = "mobile"
    with real_prometheus.page(lambda: answer[0]) as port:
        async with Kubelet(kube, namespace).running():
            stage.apply(
                shop.deployment(namespace, NAME),
                shop.service(namespace, NAME),
                shop.ingress(namespace, NAME, host="web.test"),
                mobile,
                rollouts.manifest(spec, NAME, namespace),
            )
            await routing.serving(kube, NAME, f"{NAME}-canary")
            await stage.until("stable serves", lambda status: status.get("state") == "Idle", START)
            stage.apply(shop.deployment(namespace, f"{NAME}-canary", image="shop:v2"))
            unknown = "RouteUnknown"
            await stage.until(
                "it waits", lambda status: status.get("obstacle", {}).get("reason") == unknown, START
            )
            assert "Ingress web has no address in its status" in stage.status()["obstacle"]["message"]
            assert stage.status()["weight"] == 0

            traffic = {**spec["traffic"], "url": f"http://127.0.0.1:{port}"}
            stage.apply(rollouts.manifest({**spec, "traffic": traffic}, NAME, namespace))
            await stage.until("it has weight", lambda _: stage.weights() == ["20", "20"], START)

            answer[0] = b"broken"
            await stage.until("it is taken back", lambda status: "RolledBack" in status["state"], START)
    assert stage.weights() == ["0", "0"]
    assert "check ping failed" in json.dumps(stage.status())
