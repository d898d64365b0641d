"""Phoenix in the cluster itself: the Deployments of `k8s/base`, from an image of its own, at work."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from tests import debian
from tests.cluster import rollouts
from tests.cluster.node import images, router, settings, shop
from tests.cluster.node.cluster import NodeCluster
from tests.cluster.node.images import SHOP
from tests.cluster.serving import until
from tests.cluster.test_stories import NAME, SPEC
from tests.faults.story_users import Users

from phoenix_orch.runtime.valkey_program import find_binary

NAMESPACE = "phoenix-orch"
DEPLOYMENTS = ("master-orchestrator", "health-validator", "rollback-controller")
BASE = Path(__file__).parents[2] / "k8s/base"
STORE_PORT, PROMETHEUS_PORT = 6379, 9090


@contextlib.contextmanager
def beside(cluster: NodeCluster, folder: Path, name: str, command: list[str]) -> Iterator[None]:
    """A program in the cluster's network, where pods reach it."""
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(cluster.enter(command), stdout=log, stderr=log)
        try:
            yield
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def surroundings(node_cluster: NodeCluster, tmp_path: Path) -> Iterator[None]:
    """The Redis and the Prometheus that Phoenix needs."""
    config, pace = tmp_path / "prometheus.yml", {"scrape_interval": "1s", "scrape_timeout": "1s"}
    targets = [{"targets": [f"{settings.ADDRESS}:{router.METRICS_PORT}"]}]
    jobs = [{"job_name": "traefik", **pace, "static_configs": targets}]
    config.write_text(json.dumps({"scrape_configs": jobs}), "utf-8")
    prometheus = [
        str(debian.program("prometheus", "prometheus")),
        f"--config.file={config}",
        f"--storage.tsdb.path={tmp_path}/prometheus",
        f"--web.listen-address={settings.ADDRESS}:{PROMETHEUS_PORT}",
    ]
    valkey = [str(find_binary(None)), "--port", str(STORE_PORT), "--bind", settings.ADDRESS]
    valkey += ["--protected-mode", "no", "--save", "", "--dir", str(tmp_path)]
    with (
        beside(node_cluster, tmp_path, "prometheus", prometheus),
        beside(node_cluster, tmp_path, "valkey", valkey),
    ):
        yield


def manifests(cluster: NodeCluster, image: str) -> list[dict[str, Any]]:
    """As an overlay makes them of the base: this image, one pod each, these addresses."""
    found = [one for one in YAML(typ="safe").load_all(cluster.kubectl("kustomize", str(BASE))) if one]
    for one in found:
        if one["kind"] == "ConfigMap":
            one["data"] = {
                "PHOENIX_STORE": f"redis://{settings.ADDRESS}:{STORE_PORT}/0",
                "PHOENIX_PROMETHEUS": f"http://{settings.ADDRESS}:{PROMETHEUS_PORT}",
            }
        elif one["kind"] == "Deployment":
            one["spec"]["replicas"] = 1
            container = one["spec"]["template"]["spec"]["containers"][0]
            container |= {"image": image, "imagePullPolicy": "Never"}
    order = {"Namespace": 0, "CustomResourceDefinition": 1}
    return sorted(found, key=lambda one: order.get(one["kind"], 2))


@pytest.fixture
def deployed(node_cluster: NodeCluster, surroundings: None) -> Iterator[str]:
    """The namespace in which Phoenix runs."""
    image = images.python(["-m", "phoenix_orch"], "phoenix.test/phoenix:deployed")
    node_cluster.import_images(images.python_files("phoenix-orchestrator"), [image])
    node_cluster.apply(*manifests(node_cluster, image.reference))
    try:
        for name in DEPLOYMENTS:
            words = ("rollout", "status", f"deployment/{name}", "-n", NAMESPACE, "--timeout=240s")
            node_cluster.kubectl(*words, timeout=250.0)
        yield NAMESPACE
    finally:
        node_cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def restricted(deployment: dict[str, Any]) -> dict[str, Any]:
    """As the namespace wants its pods."""
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    container["securityContext"]["capabilities"] = {"drop": ["ALL"]}
    return deployment


@pytest.mark.timeout(900)
def test_its_own_deployments_take_a_bad_version_back(node_cluster: NodeCluster, deployed: str) -> None:
    cluster, host = node_cluster, f"web.{deployed}"

    def status() -> dict[str, Any]:
        found: dict[str, Any] = cluster.get(rollouts.RESOURCE, NAME, "-n", deployed).get("status", {})
        return found

    def logs(app: str) -> str:
        return cluster.kubectl("logs", "-l", f"app={app}", "-n", deployed, "--tail=40")

    def told() -> str:
        return "\n".join((json.dumps(status()), *map(logs, DEPLOYMENTS)))

    cluster.apply(
        restricted(shop.deployment(deployed, NAME)),
        shop.service(deployed, NAME),
        shop.ingress(deployed, NAME, host=host),
        rollouts.manifest({**SPEC, "traffic": {"ingress": NAME}}, NAME, deployed),
    )
    cluster.rolled_out(deployed, NAME)
    until("Phoenix knows it", lambda: status().get("state") == "Idle", 120, told)
    with Users(cluster.web_port, 40.0, host=host) as users:
        canary = shop.deployment(deployed, f"{NAME}-canary", image=f"{SHOP}:bad-errors")
        cluster.apply(restricted(canary))
        until("it is taken back", lambda: status().get("state") == "RolledBack", 300, told)
    assert {failure.version for failure in users.account.failures} == {"bad-errors"}
    lines = [json.loads(line) for line in logs("health-validator").splitlines()]
    assert "rollback" in [line.get("kind") for line in lines if line["event"] == "verdict"]
    shown = cluster.kubectl("get", "ingress", "-n", deployed, "-L", "phoenix-orch.io/weight")
    assert [line.split()[-1] for line in shown.splitlines() if line.startswith(f"{NAME}-canary")] == ["0"]
    # deleting the Rollout takes away what Phoenix made, and nothing of the user's
    cluster.kubectl("delete", rollouts.RESOURCE, NAME, "-n", deployed)

    def ingresses() -> set[str]:
        found = cluster.get("ingress", "-n", deployed)["items"]
        return {one["metadata"]["name"] for one in found}

    until("its Ingress is gone", lambda: ingresses() == {NAME}, 60, lambda: logs("master-orchestrator"))
