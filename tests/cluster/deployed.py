"""Phoenix in the cluster itself: the Deployments of `k8s/base` from images of its own, and what they need."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from tests import debian
from tests.cluster.kubectl import Cluster
from tests.cluster.node import archive, images, router, settings
from tests.cluster.node.cluster import NodeCluster

from phoenix_orch.runtime.valkey_program import find_binary

NAMESPACE = "phoenix-orch"
ORCHESTRATOR = "master-orchestrator"
DEPLOYMENTS = (ORCHESTRATOR, "health-validator", "rollback-controller")
ROOT = Path(__file__).parents[2]
IMAGE = "phoenix-orchestrator"
"""As the manifests name it; the node's runtime puts the place where it looks first before it."""
TAGS = (
    "first",
    "next",
    *(f"{story}-{when}" for story in ("after", "during", "bake") for when in ("now", "next")),
)
"""`next` is what k8s/canary/deployment.yaml names."""
START_SECONDS = 240
_STORE_PORT, _PROMETHEUS_PORT = 6379, 9090
PLACES = {
    "PHOENIX_STORE": f"redis://{settings.ADDRESS}:{_STORE_PORT}/0",
    "PHOENIX_PROMETHEUS": f"http://{settings.ADDRESS}:{_PROMETHEUS_PORT}",
}
"""Of the surroundings, as the ConfigMap tells them."""


@contextlib.contextmanager
def running(cluster: NodeCluster, folder: Path, tags: Sequence[str]) -> Iterator[None]:
    """Phoenix at work in its namespace, of the first tag. The node has images of all tags, which are alike.

    The namespace goes with everything in it.
    """
    cluster.import_images(images.python_files("phoenix-orchestrator"), [_image(tag) for tag in tags])
    with surroundings(cluster, folder):
        make_namespace(cluster)
        try:
            cluster.apply(*_manifests(cluster, f"{IMAGE}:{tags[0]}"))
            for name in DEPLOYMENTS:
                rolled_out(cluster, name)
            yield
        finally:
            cluster.kubectl("delete", "namespace", NAMESPACE, "--timeout=240s", timeout=250)


def make_namespace(cluster: Cluster) -> None:
    """As users make it, with the strictest of the standards for pods, which Phoenix keeps to."""
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")


def rolled_out(cluster: NodeCluster, name: str) -> None:
    """Wait until this Deployment has the pods it wants. Raises Refused when it takes too long."""
    words = ("rollout", "status", f"deployment/{name}", "-n", NAMESPACE, f"--timeout={START_SECONDS}s")
    cluster.kubectl(*words, timeout=START_SECONDS + 10)


def logs(cluster: NodeCluster) -> str:
    """The end of what each of the three has logged."""
    words = ("logs", "-n", NAMESPACE, "--tail=30", "--prefix")
    return "\n".join(cluster.kubectl(*words, "-l", f"app={name}") for name in DEPLOYMENTS)


def restricted(deployment: dict[str, Any]) -> dict[str, Any]:
    """As the namespace wants its pods."""
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    container["securityContext"]["capabilities"] = {"drop": ["ALL"]}
    return deployment


def _image(tag: str) -> archive.Image:
    return images.python(["-m", "phoenix_orch"], f"docker.io/library/{IMAGE}:{tag}")


def _manifests(cluster: NodeCluster, image: str) -> list[dict[str, Any]]:
    """As an overlay makes them of the base: this image, these addresses, one pod each."""
    found = [
        one for one in YAML(typ="safe").load_all(cluster.kubectl("kustomize", str(ROOT / "k8s/base"))) if one
    ]
    for one in found:
        if one["kind"] == "ConfigMap":
            one["data"] = PLACES
        elif one["kind"] == "Deployment":
            one["spec"]["replicas"] = 1
            container = one["spec"]["template"]["spec"]["containers"][0]
            container |= {"image": image, "imagePullPolicy": "Never"}
    return sorted(found, key=lambda one: one["kind"] != "CustomResourceDefinition")


@contextlib.contextmanager
def surroundings(cluster: NodeCluster, folder: Path) -> Iterator[None]:
    """The Redis and the Prometheus that Phoenix needs."""
    config, pace = folder / "prometheus.yml", {"scrape_interval": "1s", "scrape_timeout": "1s"}
    targets = [{"targets": [f"{settings.ADDRESS}:{router.METRICS_PORT}"]}]
    jobs = [{"job_name": "traefik", **pace, "static_configs": targets}]
    config.write_text(json.dumps({"scrape_configs": jobs}), "utf-8")
    prometheus = [
        str(debian.program("prometheus", "prometheus")),
        f"--config.file={config}",
        f"--storage.tsdb.path={folder}/prometheus",
        f"--web.listen-address={settings.ADDRESS}:{_PROMETHEUS_PORT}",
    ]
    valkey = [str(find_binary(None)), "--port", str(_STORE_PORT), "--bind", settings.ADDRESS]
    valkey += ["--protected-mode", "no", "--save", "", "--dir", str(folder)]
    with _beside(cluster, folder, "prometheus", prometheus), _beside(cluster, folder, "valkey", valkey):
        yield


@contextlib.contextmanager
def _beside(cluster: NodeCluster, folder: Path, name: str, command: list[str]) -> Iterator[None]:
    """A program in the cluster's network, where pods reach it."""
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(cluster.enter(command), stdout=log, stderr=log)
        try:
            yield
        finally:
            process.kill()
            process.wait()
