"""The canary of the orchestrator is its Deployment under other labels: its template is what stable gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

MANIFESTS = Path(__file__).parents[2] / "k8s"


def template(path: str) -> dict[str, Any]:
    found = YAML(typ="safe").load_all((MANIFESTS / path).read_text("utf-8"))
    (deployment,) = (one for one in found if one["kind"] == "Deployment")
    made: dict[str, Any] = deployment["spec"]["template"]
    return made


def test_a_promotion_of_the_canary_takes_nothing_from_the_orchestrator() -> None:
    canary = template("canary/deployment.yaml")
    canary["spec"]["containers"][0]["image"] = "phoenix-orchestrator"
    renamed = json.loads(json.dumps(canary).replace("master-orchestrator-canary", "master-orchestrator"))
    assert renamed == template("base/master-orchestrator.yaml")
