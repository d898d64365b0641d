"""Where a check of a cluster's canary calls."""

from __future__ import annotations

from typing import Any

import pytest

from phoenix_orch.orchestrator.cluster.check_targets import check_target
from phoenix_orch.orchestrator.cluster.declared import Declared
from phoenix_orch.rollout.kubernetes_spec import KubernetesRolloutSpec
from phoenix_orch.rollout.status import Rollout, State, Status

SPEC = KubernetesRolloutSpec.model_validate({"workload": {"name": "web"}, "traffic": {"ingress": "web"}})
ONE = Declared(
    "uid-1",
    "shops",
    SPEC,
    Rollout(name="web", service="web", route="web", spec=SPEC.common(), target="new"),
)
RELEASING = Status(state=State.PROGRESSING, stable="old", canary="new")
BAKING = Status(state=State.BAKING, stable="new", previous="old")


def service(name: str, *ports: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"ports": list(ports)}}


BOTH = [service("web", {"port": 80}), service("web-canary", {"port": 80})]


def test_the_canary_is_called_by_its_service() -> None:
    assert check_target(ONE, RELEASING, "new", BOTH) == "http://web-canary.shops.svc:80"


def test_what_was_promoted_is_called_as_stable() -> None:
    assert check_target(ONE, BAKING, "new", BOTH) == "http://web.shops.svc:80"


def test_of_several_ports_the_one_called_http_counts() -> None:
    found = service("web-canary", {"port": 9090, "name": "admin"}, {"port": 8080, "name": "http"})
    assert check_target(ONE, RELEASING, "new", [found]) == "http://web-canary.shops.svc:8080"


@pytest.mark.parametrize("services", [[], BOTH[:1], [service("web-canary")]])
def test_there_is_nothing_to_call_before_there_is_a_service(services: list[dict[str, Any]]) -> None:
    assert check_target(ONE, RELEASING, "new", services) is None
