"""What `{route}` is in a cluster, and what is said where nobody knows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.kube_objects import ingress, path
from tests.unit.test_check_targets import ONE

from phoenix_orch.orchestrator.cluster.declared import Declared
from phoenix_orch.orchestrator.cluster.user_calls import call_of, missing
from phoenix_orch.rollback_controller.checks import Route
from phoenix_orch.rollout.kubernetes_spec import KubernetesRolloutSpec
from phoenix_orch.workload.deployment.refusal import Refusal

BY_ROUTE = {"checks": [{"name": "ping", "http": {"url": "{route}/ping"}}]}


def declared(**spec: Any) -> Declared:
    given = {"workload": {"name": "web"}, "traffic": {"ingress": "web"}, **spec}
    return replace(ONE, spec=KubernetesRolloutSpec.model_validate(given))


def main(*rules: tuple[str, dict[str, Any]], address: dict[str, str] | None = None, **more: Any) -> Any:
    found = ingress("web", *(rules or (("shop.example.com", path("web")),)), **more)
    listed = [address if address is not None else {"ip": "10.0.0.9"}]
    return {**found, "status": {"loadBalancer": {"ingress": listed}}}


@pytest.mark.parametrize(
    ("found", "route"),
    [
        (main(), Route("http://10.0.0.9", "shop.example.com")),
        (main(address={"hostname": "lb.example.net"}), Route("http://lb.example.net", "shop.example.com")),
        (main(address={"ip": "fd00::9"}), Route("http://[fd00::9]", "shop.example.com")),
        (main(("", path("web"))), Route("http://10.0.0.9")),
        (main(("a.example.com", path("web", "/shop/"))), Route("http://10.0.0.9/shop", "a.example.com")),
        (
            main(("a.example.com", path("api")), ("b.example.com", path("web"))),
            Route("http://10.0.0.9", "b.example.com"),
        ),
        (
            main(("*.example.com", path("web")), ("b.example.com", path("web"))),
            Route("http://10.0.0.9", "b.example.com"),
        ),
    ],
)
def test_an_ingress_says_where_users_call(found: Any, route: Route) -> None:
    assert call_of(declared(), found) == route


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (None, "Ingress web does not exist"),
        (main(address={}), "Ingress web has no address in its status"),
        (main(tls=[{"hosts": ["shop.example.com"]}]), "Ingress web has TLS"),
        (main(("*.example.com", path("web"))), "no rule with a plain host and path"),
        (main(("a.example.com", path("api"))), "no rule with a plain host and path"),
        (main(("a.example.com", path("web", "/x(/|$)(.*)"))), "no rule with a plain host and path"),
        (
            main(annotations={"nginx.ingress.kubernetes.io/use-regex": "true"}),
            "no rule with a plain host and path",
        ),
    ],
)
def test_what_is_not_plain_is_not_guessed(found: Any, why: str) -> None:
    told = call_of(declared(), found)
    assert isinstance(told, Refusal)
    assert why in told.message
    assert "traffic.url" in told.remedy
    refusal = missing(declared(**BY_ROUTE), found)
    assert refusal is not None
    assert refusal.message.startswith("check ping calls {route}, and ")


def test_what_is_written_down_counts() -> None:
    one = declared(traffic={"ingress": "web", "url": "https://shop.example.com/"}, **BY_ROUTE)
    assert call_of(one, None) == Route("https://shop.example.com")
    assert missing(one, None) is None


def test_a_route_of_the_gateway_api_does_not_know_its_address() -> None:
    one = declared(traffic={"httpRoute": "web"}, **BY_ROUTE)
    refusal = missing(one, None)
    assert refusal is not None
    assert "HTTPRoute web does not say where its Gateway is" in refusal.message


def test_nobody_has_to_say_what_no_check_calls() -> None:
    assert missing(declared(traffic={"httpRoute": "web"}), None) is None
    by_address = {"checks": [{"name": "ping", "http": {"url": "http://web/{{route}}"}}]}
    assert missing(declared(traffic={"httpRoute": "web"}, **by_address), None) is None
