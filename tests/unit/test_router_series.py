"""Whose series of an ingress controller or a gateway is."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from phoenix_orch.health_validator.sources.router_series import (
    EnvoyGateway,
    IngressNginx,
    RouterSeries,
    Target,
    TraefikGateway,
    TraefikIngress,
)

TARGET = Target("phoenix-orch", "web", "web", "web-canary", backends=("stable", "canary"))
GATEWAY = "httproute-phoenix-orch-web-gw-phoenix-orch-gw-ep-http-0-2ebe16800cd60a14d625-svc-phoenix-orch"
"""As Traefik 3.7 names it, but for the service."""

CASES: list[tuple[RouterSeries, dict[str, str], str | None]] = [
    (
        IngressNginx(),
        {"namespace": "phoenix-orch", "ingress": "web", "service": "web", "canary": ""},
        "stable",
    ),
    (
        IngressNginx(),
        {
            "namespace": "phoenix-orch",
            "ingress": "web",
            "service": "web",
            "canary": "phoenix-orch-web-canary-80",
        },
        "canary",
    ),
    (
        IngressNginx(),
        {
            "namespace": "ingress-nginx",
            "exported_namespace": "phoenix-orch",
            "ingress": "web",
            "service": "ingress-nginx-controller-metrics",
            "exported_service": "web",
        },
        "stable",
    ),
    (IngressNginx(), {"namespace": "other", "ingress": "web", "service": "web"}, None),
    (IngressNginx(), {"namespace": "phoenix-orch", "ingress": "web", "service": "api"}, None),
    (
        IngressNginx(),
        {"namespace": "phoenix-orch", "ingress": "web", "service": "web", "canary": "phoenix-orch-api-80"},
        None,
    ),
    (TraefikIngress(), {"service": "phoenix-orch-web-web-80@kubernetesingressnginx"}, "stable"),
    (TraefikIngress(), {"service": "phoenix-orch-web-web-http@kubernetesingressnginx"}, "stable"),
    (TraefikIngress(), {"service": "phoenix-orch-web-web-80-canary@kubernetesingressnginx"}, "canary"),
    (
        TraefikIngress(),
        {
            "service": "traefik-metrics",
            "exported_service": "phoenix-orch-web-web-80@kubernetesingressnginx",
        },
        "stable",
    ),
    (TraefikIngress(), {"service": "phoenix-orch-web-web-x-80@kubernetesingressnginx"}, None),
    (TraefikIngress(), {"service": "phoenix-orch-web-api-80@kubernetesingressnginx"}, None),
    (
        TraefikIngress(),
        {"service": "phoenix-orch-web-web-80@kubernetesingressnginx", "protocol": "websocket"},
        None,
    ),
    (TraefikGateway(), {"service": f"{GATEWAY}-web-0@kubernetesgateway"}, "stable"),
    (TraefikGateway(), {"service": f"{GATEWAY}-web-canary-1@kubernetesgateway"}, "canary"),
    (TraefikGateway(), {"service": f"{GATEWAY}-web-admin-0@kubernetesgateway"}, None),
    (EnvoyGateway(), {"envoy_cluster_name": "httproute/phoenix-orch/web/rule/0/backend/0"}, "stable"),
    (EnvoyGateway(), {"envoy_cluster_name": "httproute/phoenix-orch/web/rule/3/backend/1"}, "canary"),
    (EnvoyGateway(), {"envoy_cluster_name": "httproute/phoenix-orch/web/rule/0/backend/2"}, None),
    (EnvoyGateway(), {"envoy_cluster_name": "httproute/phoenix-orch/web/rule/0"}, None),
    (EnvoyGateway(), {"envoy_cluster_name": "httproute/phoenix-orch/web2/rule/0/backend/0"}, None),
]


@pytest.mark.parametrize(("router", "labels", "variant"), CASES)
def test_whose_series_it_is(router: RouterSeries, labels: dict[str, str], variant: str | None) -> None:
    assert router.variant(labels, TARGET) == variant


@pytest.mark.parametrize(("router", "labels", "variant"), [case for case in CASES if case[2]])
def test_the_question_finds_every_series_of_the_route(
    router: RouterSeries, labels: dict[str, str], variant: str
) -> None:
    values = {labels[family.label] for family in router.families if family.label in labels}
    assert variant
    assert any(re.fullmatch(router.pattern(TARGET), value) for value in values)


@pytest.mark.parametrize(
    ("series", "labels"),
    [
        (IngressNginx(), {"namespace": "phoenix-orch", "ingress": "mobile", "service": "web"}),
        (TraefikIngress(), {"service": "phoenix-orch-mobile-web-80@kubernetesingressnginx"}),
        (
            TraefikGateway(),
            {"service": f"{GATEWAY.replace('-web-gw', '-mobile-gw')}-web-0@kubernetesgateway"},
        ),
        (EnvoyGateway(), {"envoy_cluster_name": "httproute/phoenix-orch/mobile/rule/0/backend/0"}),
    ],
    ids=lambda one: type(one).__name__,
)
def test_requests_of_every_object_of_the_route_count(series: RouterSeries, labels: dict[str, str]) -> None:
    both = replace(TARGET, additional=("mobile",))
    assert (series.variant(labels, TARGET), series.variant(labels, both)) == (None, "stable")
    own = labels[next(name for name in ("ingress", "service", "envoy_cluster_name") if name in labels)]
    assert re.fullmatch(series.pattern(both), own)
    assert not re.fullmatch(series.pattern(TARGET), own)
