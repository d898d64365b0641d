"""Where pods show their metrics, whatever people write into annotations."""

from __future__ import annotations

from typing import Any

import pytest

from phoenix_orch.workload.deployment.metrics_page import metrics_page, metrics_port


def pod(ports: list[dict[str, Any]], ip: str = "10.0.0.7", **annotations: str) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "web-1",
            "annotations": {f"prometheus.io/{name}": value for name, value in annotations.items()},
        },
        "spec": {"containers": [{"name": "app", "ports": ports}, {"name": "side"}]},
        "status": {"podIP": ip} if ip else {},
    }


HTTP, METRICS = {"containerPort": 8080}, {"name": "metrics", "containerPort": 9102}


@pytest.mark.parametrize(
    ("found", "url"),
    [
        (pod([HTTP]), "http://10.0.0.7:8080/metrics"),
        (pod([HTTP, METRICS]), "http://10.0.0.7:9102/metrics"),
        (
            pod([HTTP], port="9000", path="/stats?format=prometheus"),
            "http://10.0.0.7:9000/stats?format=prometheus",
        ),
        (pod([], port="9000", scheme="https", scrape="true"), "https://10.0.0.7:9000/metrics"),
        (pod([HTTP], ip="fd00::7"), "http://[fd00::7]:8080/metrics"),
    ],
)
def test_the_usual_annotations(found: dict[str, Any], url: str) -> None:
    assert metrics_page(found) == (url, "")


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (pod([]), "names no port"),
        (pod([HTTP], ip=""), "has no address"),
        (pod([HTTP], scrape="false"), "scrape: false"),
        (pod([HTTP], scheme="ftp"), "neither http nor https"),
        (pod([HTTP], path="@elsewhere.example/metrics"), "does not begin with /"),
        *(
            (pod([HTTP], port=text), "names no port")
            for text in ("http", "0", "65536", "-1", "80/x", "²", "8 0")
        ),
    ],
)
def test_what_is_no_page_says_why(found: dict[str, Any], said: str) -> None:
    url, fault = metrics_page(found)
    assert url == ""
    assert said in fault
    assert "web-1" in fault


def test_a_port_that_is_none_is_no_port_and_no_fault_of_the_pod() -> None:
    assert metrics_port(pod([HTTP], port="http")) == 0
    assert metrics_port(pod([HTTP])) == 8080
