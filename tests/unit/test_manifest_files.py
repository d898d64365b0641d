"""What `k8s/base` and `k8s/canary` say of the orchestrator goes together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
BASE, CANARY = ROOT / "k8s/base", ROOT / "k8s/canary"
ORCHESTRATOR = "master-orchestrator"


def documents(path: Path) -> list[dict[str, Any]]:
    return [one for one in YAML(typ="safe").load_all(path.read_text("utf-8")) if one]


def one_of(kind: str, path: Path) -> dict[str, Any]:
    (found,) = (one for one in documents(path) if one["kind"] == kind)
    return found


def backend(ingress: dict[str, Any]) -> tuple[str, Any, Any]:
    """(host, Service, name of its port) of an Ingress with one path."""
    (rule,) = ingress["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    service = path["backend"]["service"]
    return rule["host"], service["name"], service["port"]["name"]


def test_the_way_to_the_orchestrator_and_to_its_canary_ends_at_a_port_that_is_open() -> None:
    service = one_of("Service", BASE / "service.yaml")
    stable = one_of("Deployment", BASE / "master-orchestrator.yaml")
    main, canary = (documents(CANARY / name)[0] for name in ("ingress.yaml", "traffic-control.yaml"))
    (port,) = service["spec"]["ports"]
    host = backend(main)[0]
    assert backend(main) == (host, service["metadata"]["name"], port["name"])
    assert backend(canary) == (host, f"{service['metadata']['name']}-canary", port["name"])
    assert main["spec"]["ingressClassName"] == canary["spec"]["ingressClassName"]
    assert service["spec"]["selector"] == stable["spec"]["selector"]["matchLabels"]
    (container,) = stable["spec"]["template"]["spec"]["containers"]
    numbers = {one["name"]: one["containerPort"] for one in container["ports"]}
    policy = one_of("NetworkPolicy", BASE / "network.yaml")["spec"]
    let_in = [numbers[port["targetPort"]], numbers["probes"], numbers["metrics"]]
    assert policy["ingress"] == [{"ports": [{"port": each, "protocol": "TCP"} for each in let_in]}]


def test_the_canary_differs_from_stable_in_its_labels_and_its_image_alone() -> None:
    """What else its template said would be stable's after the promotion: also what keeps it from leading."""
    stable, canary = (
        one_of("Deployment", path)["spec"]["template"]
        for path in (BASE / "master-orchestrator.yaml", CANARY / "deployment.yaml")
    )
    (container,) = stable["spec"]["containers"]
    own = {one["name"]: one["valueFrom"] for one in container["env"]}
    assert own == {"PHOENIX_APP": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}}
    as_canary = json.loads(json.dumps(stable).replace(ORCHESTRATOR, f"{ORCHESTRATOR}-canary"))
    as_canary["spec"]["serviceAccountName"] = ORCHESTRATOR
    as_canary["spec"]["containers"][0]["image"] += ":next"
    assert canary == as_canary
