"""The cluster with a node: what stories of releases with real pods and real traffic rely on."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.cluster.awaiting import eventually
from tests.cluster.kubectl import Refused
from tests.cluster.node import images, settings, shop
from tests.cluster.node.cluster import NodeCluster
from tests.cluster.node.images import CANNOT_START, SHOP
from tests.faults.story_users import Users

ASK = "import urllib.request; print(urllib.request.urlopen({url!r}, timeout=5).headers['X-Shop-Version'])"


def pods(cluster: NodeCluster, namespace: str, name: str = "shop") -> list[Any]:
    found: list[Any] = cluster.get("pods", "-n", namespace, "-l", f"app={name}")["items"]
    return found


def containers(cluster: NodeCluster, namespace: str) -> list[Any]:
    """The status of the container of each pod that is meant to stay, as far as there is one."""
    found = [pod for pod in pods(cluster, namespace) if "deletionTimestamp" not in pod["metadata"]]
    return [status for pod in found for status in pod["status"].get("containerStatuses", [])]


def images_of(cluster: NodeCluster, namespace: str) -> set[str]:
    return {status["image"] for status in containers(cluster, namespace)}


def version_of(client: httpx.Client, host: str) -> str:
    """The version that answers; the status when there is none."""
    answer = client.get("/", headers={"Host": host})
    return str(answer.headers.get("X-Shop-Version", answer.status_code))


def share_of(client: httpx.Client, host: str, version: str, requests: int) -> float:
    """Of all answers. Exact, but for a turn that begins anew when something else of the router changes."""
    seen = Counter(version_of(client, host) for _ in range(requests))
    assert set(seen) == {"v1", "v2"}
    return seen[version] / requests


@pytest.fixture
def web(node_cluster: NodeCluster) -> Iterator[httpx.Client]:
    address = f"http://127.0.0.1:{node_cluster.web_port}"
    with httpx.Client(base_url=address, trust_env=False, timeout=10) as client:
        yield client


def test_the_node_is_ready_and_there_is_no_way_out(node_cluster: NodeCluster) -> None:
    node = node_cluster.get("node", settings.NAME)
    conditions = {one["type"]: one["status"] for one in node["status"]["conditions"]}
    assert conditions["Ready"] == "True"
    assert node["status"]["nodeInfo"]["kubeletVersion"] == node_cluster.release
    routes = subprocess.run(
        node_cluster.enter([f"{node_cluster.folder}/bin/ip", "route"]),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "default" not in routes.stdout


def test_a_deployment_serves_and_one_can_look_into_it(node_cluster: NodeCluster, node_namespace: str) -> None:
    node_cluster.apply(shop.deployment(node_namespace, replicas=2))
    node_cluster.rolled_out(node_namespace, "shop")
    there = ("-n", node_namespace, "deployment/shop")
    inside = ASK.format(url="http://127.0.0.1:8080/")
    assert node_cluster.kubectl("exec", *there, "--", "python3", "-c", inside) == "v1\n"
    speak = "print('hello', file=open('/proc/1/fd/1', 'w'))"
    node_cluster.kubectl("exec", *there, "--", "python3", "-c", speak)
    eventually("the word is in the log", lambda: "hello" in node_cluster.kubectl("logs", *there))


def test_pods_reach_services_by_name_and_by_address(node_cluster: NodeCluster, node_namespace: str) -> None:
    node_cluster.apply(
        shop.deployment(node_namespace),
        shop.service(node_namespace),
        shop.service(node_namespace, "shop-headless", headless=True),
    )
    node_cluster.rolled_out(node_namespace, "shop")
    address = node_cluster.get("service", "shop", "-n", node_namespace)["spec"]["clusterIP"]

    def ask(url: str) -> str:
        words = ("exec", "-n", node_namespace, "deployment/shop", "--", "python3", "-c", ASK.format(url=url))
        return node_cluster.kubectl(*words).strip()

    assert ask(f"http://{address}/") == "v1"
    assert ask("http://shop/") == "v1"
    assert ask(f"http://shop.{node_namespace}.svc.cluster.local/") == "v1"
    assert ask("http://shop-headless:8080/") == "v1"
    with pytest.raises(Refused, match="Name or service not known"):
        ask("http://shop.example.com/")


def test_history_undo_and_status_of_a_rolling_update(node_cluster: NodeCluster, node_namespace: str) -> None:
    there = ("-n", node_namespace)
    node_cluster.apply(shop.deployment(node_namespace))
    node_cluster.rolled_out(node_namespace, "shop")
    node_cluster.kubectl("set", "image", "deployment/shop", f"shop={SHOP}:v2", *there)
    cause = "kubernetes.io/change-cause=second edition"
    node_cluster.kubectl("annotate", "deployment/shop", cause, *there)
    node_cluster.rolled_out(node_namespace, "shop")
    assert "second edition" in node_cluster.kubectl("rollout", "history", "deployment/shop", *there)
    assert {one["image"] for one in containers(node_cluster, node_namespace) if one["ready"]} == {
        f"{SHOP}:v2"
    }
    node_cluster.kubectl("rollout", "undo", "deployment/shop", *there)
    node_cluster.rolled_out(node_namespace, "shop")
    assert {one["image"] for one in containers(node_cluster, node_namespace) if one["ready"]} == {
        f"{SHOP}:v1"
    }
    history = node_cluster.kubectl("rollout", "history", "deployment/shop", *there)
    assert re.findall(r"^(\d+)", history, re.MULTILINE) == ["2", "3"]


def test_users_notice_nothing_of_a_rolling_update(
    node_cluster: NodeCluster, node_namespace: str, web: httpx.Client
) -> None:
    host = f"shop.{node_namespace}"
    node_cluster.apply(
        shop.deployment(node_namespace, replicas=2),
        shop.service(node_namespace),
        shop.ingress(node_namespace, host=host),
    )
    node_cluster.rolled_out(node_namespace, "shop")
    eventually("the shop is served", lambda: version_of(web, host) == "v1")
    with Users(node_cluster.web_port, 50.0, host=host) as users:
        eventually("users come", lambda: users.account.answered > 50)
        node_cluster.kubectl("set", "image", "deployment/shop", f"shop={SHOP}:v2", "-n", node_namespace)
        node_cluster.rolled_out(node_namespace, "shop")
        eventually("only the new version serves", lambda: _only(web, host, "v2"))
    assert users.account.failures == []
    assert set(users.account.by_version) == {"v1", "v2"}


def _only(web: httpx.Client, host: str, version: str) -> bool:
    return {version_of(web, host) for _ in range(20)} == {version}


def test_a_canary_of_an_ingress_gets_its_weight(
    node_cluster: NodeCluster, node_namespace: str, web: httpx.Client
) -> None:
    host = f"shop.{node_namespace}"
    node_cluster.apply(
        shop.deployment(node_namespace),
        shop.service(node_namespace),
        shop.ingress(node_namespace, host=host),
        shop.deployment(node_namespace, "shop-canary", image=f"{SHOP}:v2"),
        shop.service(node_namespace, "shop-canary"),
        shop.ingress(node_namespace, "shop-canary", host=host, weight=5),
    )
    node_cluster.rolled_out(node_namespace, "shop", "shop-canary")
    eventually("the canary serves", lambda: "v2" in {version_of(web, host) for _ in range(40)})
    assert share_of(web, host, "v2", 600) == pytest.approx(0.05, abs=0.01)
    metrics = httpx.get(f"http://127.0.0.1:{node_cluster.metrics_port}/metrics", trust_env=False).text
    assert re.search(rf'traefik_service_requests_total{{.*service="{node_namespace}.*canary', metrics)


def test_a_route_of_the_gateway_api_splits_by_weight(
    node_cluster: NodeCluster, node_namespace: str, web: httpx.Client
) -> None:
    host = f"shop.{node_namespace}"
    weights = {"shop": 80, "shop-canary": 20}
    node_cluster.apply(
        shop.deployment(node_namespace),
        shop.service(node_namespace),
        shop.deployment(node_namespace, "shop-canary", image=f"{SHOP}:v2"),
        shop.service(node_namespace, "shop-canary"),
        shop.http_route(node_namespace, host=host, weights=weights),
    )
    node_cluster.rolled_out(node_namespace, "shop", "shop-canary")
    eventually("both serve", lambda: {version_of(web, host) for _ in range(20)} == {"v1", "v2"})
    assert share_of(web, host, "v2", 300) == pytest.approx(0.20, abs=0.02)
    (parent,) = node_cluster.get("httproute", "shop", "-n", node_namespace)["status"]["parents"]
    conditions = {one["type"]: one["status"] for one in parent["conditions"]}
    assert (conditions["Accepted"], conditions["ResolvedRefs"]) == ("True", "True")


def test_a_bad_canary_fails_its_share(
    node_cluster: NodeCluster, node_namespace: str, web: httpx.Client
) -> None:
    host = f"shop.{node_namespace}"
    node_cluster.apply(
        shop.deployment(node_namespace),
        shop.service(node_namespace),
        shop.ingress(node_namespace, host=host),
        shop.deployment(node_namespace, "shop-canary", image=f"{SHOP}:bad-errors"),
        shop.service(node_namespace, "shop-canary"),
        shop.ingress(node_namespace, "shop-canary", host=host, weight=20),
    )
    node_cluster.rolled_out(node_namespace, "shop", "shop-canary")
    versions = {"v1", "bad-errors"}
    eventually("both serve", lambda: {version_of(web, host) for _ in range(20)} == versions)
    with Users(node_cluster.web_port, rate=50, host=host) as users:
        eventually("some fail", lambda: len(users.account.failures) > 3)
    assert {failure.version for failure in users.account.failures} == {"bad-errors"}


def test_memory_that_leaks_ends_in_an_oom_kill(
    node_cluster: NodeCluster, node_namespace: str, web: httpx.Client
) -> None:
    host = f"shop.{node_namespace}"
    node_cluster.apply(
        shop.deployment(node_namespace, image=f"{SHOP}:leak", memory="48Mi"),
        shop.service(node_namespace),
        shop.ingress(node_namespace, host=host),
    )
    node_cluster.rolled_out(node_namespace, "shop")
    eventually("the shop is served", lambda: version_of(web, host) == "leak")

    def killed() -> bool:
        version_of(web, host)
        return any(_ended(one) == "OOMKilled" for one in containers(node_cluster, node_namespace))

    eventually("it is killed", killed)


def _ended(status: Any) -> str:
    """Why the container ended the last time."""
    for state in (status["state"], status["lastState"]):
        if "terminated" in state:
            return str(state["terminated"]["reason"])
    return ""


def waiting(cluster: NodeCluster, namespace: str) -> set[str]:
    return {one["state"].get("waiting", {}).get("reason", "") for one in containers(cluster, namespace)}


def test_a_program_that_crashes_gets_into_a_crash_loop(
    node_cluster: NodeCluster, node_namespace: str
) -> None:
    crash = "import os; os._exit(3)"
    made = shop.deployment(node_namespace)
    made["spec"]["template"]["spec"]["containers"][0]["command"] = ["python3", "-c", crash]
    node_cluster.apply(made)
    eventually("it is in a crash loop", lambda: waiting(node_cluster, node_namespace) == {"CrashLoopBackOff"})
    (status,) = containers(node_cluster, node_namespace)
    assert status["restartCount"] >= 1
    assert status["lastState"]["terminated"]["exitCode"] == 3


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (f"{SHOP}:nobody-built-it", "ErrImageNeverPull"),
        (CANNOT_START, "RunContainerError|CrashLoopBackOff"),
    ],
)
def test_an_image_that_cannot_start_says_why(
    node_cluster: NodeCluster, node_namespace: str, image: str, reason: str
) -> None:
    node_cluster.apply(shop.deployment(node_namespace, image=image))
    eventually(
        "it says why",
        lambda: any(re.fullmatch(reason, found) for found in waiting(node_cluster, node_namespace)),
    )


def test_a_build_that_is_never_ready_runs_and_gets_no_traffic(
    node_cluster: NodeCluster, node_namespace: str
) -> None:
    node_cluster.apply(
        shop.deployment(node_namespace, image=f"{SHOP}:never-ready"), shop.service(node_namespace)
    )
    eventually(
        "it runs", lambda: any("running" in one["state"] for one in containers(node_cluster, node_namespace))
    )
    with pytest.raises(Refused, match="timed out"):
        node_cluster.kubectl("rollout", "status", "deployment/shop", "-n", node_namespace, "--timeout=3s")
    slices = node_cluster.get(
        "endpointslices", "-n", node_namespace, "-l", "kubernetes.io/service-name=shop"
    )["items"]
    conditions = [end["conditions"] for part in slices for end in part.get("endpoints") or []]
    assert [one["ready"] for one in conditions] == [False]


def test_an_image_of_ones_own_holds_all_that_phoenix_requires(
    node_cluster: NodeCluster, node_namespace: str
) -> None:
    image = images.python(["-m", "phoenix_orch.cli.main"], f"phoenix.test/phoenix:{node_namespace}")
    node_cluster.import_images(images.python_files("phoenix-orchestrator"), [image])
    words = ("--image", image.reference, "--image-pull-policy=Never", "--restart=Never", "-n", node_namespace)
    node_cluster.kubectl("run", "phoenix", *words, "--", "version")
    node_cluster.kubectl(
        *("wait", "pod/phoenix", "-n", node_namespace, "--timeout=240s"),
        "--for=jsonpath={.status.phase}=Succeeded",
        timeout=250,
    )
    said = node_cluster.kubectl("logs", "phoenix", "-n", node_namespace)
    assert importlib.metadata.version("phoenix-orchestrator") in said


@pytest.mark.timeout(900)  # clients come back one after another, with pauses that grow
def test_users_are_served_while_the_api_server_is_away(
    node_cluster: NodeCluster, node_namespace: str, web: httpx.Client
) -> None:
    host = f"shop.{node_namespace}"
    node_cluster.apply(
        shop.deployment(node_namespace),
        shop.service(node_namespace),
        shop.ingress(node_namespace, host=host),
    )
    node_cluster.rolled_out(node_namespace, "shop")
    eventually("the shop is served", lambda: version_of(web, host) == "v1")
    node_cluster.stop_api_server(kill=True)
    with pytest.raises(Refused):
        node_cluster.get("namespaces")
    assert version_of(web, host) == "v1"
    node_cluster.start_api_server()
    node_cluster.kubectl("set", "image", "deployment/shop", f"shop={SHOP}:v2", "-n", node_namespace)
    eventually("the cluster works again", lambda: version_of(web, host) == "v2", seconds=300)
