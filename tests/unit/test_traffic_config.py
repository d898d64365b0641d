import json
from collections import Counter
from typing import Any
from unittest.mock import ANY

import pytest

from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.testing.router_contract import NEW, OLD, group
from phoenix_orch.traffic.router import Backend, Group, TrafficState
from phoenix_orch.traffic.spec import RouterSpec, RouteSpec
from phoenix_orch.traffic.traefik_config import (
    BUCKETS,
    PLACES,
    ServiceName,
    bucket_edges,
    dynamic_config,
    fingerprint,
    parse_service_name,
    service_name,
    static_config,
    table_config,
    waiting_config,
)

WEB = RouteSpec(service="web")


def rendered(state: TrafficState, spec: RouteSpec = WEB) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(json.dumps(dynamic_config(spec, state)))
    return config


def weights(state: TrafficState) -> dict[str, int]:
    """Percentages by service, all places on the wheel together."""
    shares: Counter[str] = Counter()
    for entry in rendered(state)["services"]["web"]["weighted"]["services"]:
        shares[entry["name"]] += entry["weight"]
    assert sum(shares.values()) == 10_000
    return {name: weight // 100 for name, weight in shares.items()}


def test_the_weight_is_split_between_the_variants() -> None:
    state = TrafficState(route="web", stable=OLD, canary=NEW, weight=5)
    assert weights(state) == {"web.stable.old": 95, "web.canary.new": 5}
    servers = rendered(state)["services"]["web.stable.old"]["loadBalancer"]["servers"]
    assert servers == [{"url": "http://127.0.0.1:20001"}, {"url": "http://127.0.0.1:20002"}]


def test_every_service_named_is_defined() -> None:
    """A name without a service makes Traefik drop the whole route."""
    for canary in (None, NEW, Group(revision="new")):
        config = rendered(TrafficState(route="web", stable=OLD, canary=canary))
        named = {entry["name"] for entry in config["services"]["web"]["weighted"]["services"]}
        assert named | {"web"} == set(config["services"])
        assert config["routers"]["web"]["middlewares"] == list(config["middlewares"])


def test_a_canary_without_backends_gets_no_share() -> None:
    state = TrafficState(route="web", stable=OLD, canary=Group(revision="new"), weight=60)
    assert weights(state) == {"web.stable.old": 100}


def test_a_route_of_which_nobody_is_left_is_told_to_try_again() -> None:
    config = rendered(TrafficState(route="web", stable=Group(revision="old"), canary=Group(revision="new")))
    assert config["services"]["web.stable.old"] == {"loadBalancer": {"servers": []}}
    (middleware,) = config["routers"]["web"]["middlewares"]
    headers = config["middlewares"][middleware]["headers"]["customResponseHeaders"]
    assert headers == {"Retry-After": "1"}
    partly = rendered(TrafficState(route="web", stable=Group(revision="old"), canary=NEW, weight=20))
    assert partly["routers"]["web"]["middlewares"] == ["web.retry"], "the canary's answers are its own"


def test_at_100_stable_is_still_there() -> None:
    state = TrafficState(route="web", stable=OLD, canary=NEW, weight=100)
    assert weights(state) == {"web.stable.old": 0, "web.canary.new": 100}


def test_the_same_revision_as_both_variants_is_two_services() -> None:
    state = TrafficState(route="web", stable=group("new", 1), canary=group("new", 2), weight=10)
    assert weights(state) == {"web.stable.new": 90, "web.canary.new": 10}


@pytest.mark.parametrize(
    ("spec", "rule"),
    [
        (RouteSpec(service="web"), "PathPrefix(`/`)"),
        (RouteSpec(service="web", path_prefix="/api"), "(Path(`/api`) || PathPrefix(`/api/`))"),
        (RouteSpec(service="web", host="a.b"), "Host(`a.b`) && PathPrefix(`/`)"),
        (
            RouteSpec(service="web", host="a.b", path_prefix="/x"),
            "Host(`a.b`) && (Path(`/x`) || PathPrefix(`/x/`))",
        ),
    ],
)
def test_rule(spec: RouteSpec, rule: str) -> None:
    assert rendered(TrafficState(route="web", stable=OLD), spec)["routers"]["web"]["rule"] == rule


def test_the_most_exact_route_wins() -> None:
    specs = [
        RouteSpec(service="web"),
        RouteSpec(service="web", path_prefix="/a/very/long/prefix/that/makes/the/rule/long"),
        RouteSpec(service="web", host="a.b"),
        RouteSpec(service="web", host="a.b", path_prefix="/x"),
    ]
    state = TrafficState(route="web", stable=OLD)
    priorities = [rendered(state, spec)["routers"]["web"]["priority"] for spec in specs]
    assert priorities == sorted(set(priorities))


def test_every_whole_percentage_is_dealt_out_exactly() -> None:
    assert all(sum(places) == 100 for places in PLACES.values())
    for weight in range(101):
        state = TrafficState(route="web", stable=OLD, canary=NEW, weight=weight)
        assert weights(state) == {"web.stable.old": 100 - weight, "web.canary.new": weight}


def test_a_route_that_waits_sends_nobody_anywhere() -> None:
    config: dict[str, Any] = dict(waiting_config("web", RouteSpec(service="web", path_prefix="/api")))
    assert config["services"] == {"web": {"loadBalancer": {"servers": []}}}
    assert config["routers"]["web"]["rule"] == "(Path(`/api`) || PathPrefix(`/api/`))"
    (middleware,) = config["routers"]["web"]["middlewares"]
    headers = config["middlewares"][middleware]["headers"]["customResponseHeaders"]
    assert headers == {"Retry-After": "1"}


def test_the_marker_tells_tables_apart_and_no_table_is_empty() -> None:
    empty, nothing = table_config([])
    assert empty == {"http": {"middlewares": {nothing: ANY}}}
    one = dynamic_config(WEB, TrafficState(route="web", stable=OLD))
    other = dynamic_config(WEB, TrafficState(route="web", stable=OLD, canary=NEW, weight=5))
    assert len({nothing, table_config([one])[1], table_config([other])[1]}) == 3
    assert table_config([one]) == table_config([dict(one)])


@pytest.mark.parametrize("revision", ["", "a b", "a@file", "x" * 64, "{{", "`", "-a", "a\nb"])
def test_a_revision_that_cannot_be_a_name_is_refused(revision: str) -> None:
    with pytest.raises(Invalid, match="revision"):
        rendered(TrafficState(route="web", stable=group(revision, 1)))


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:80", "ftp://a", "http://a b", "http://a/{{", 'http://a"', "http://a\n"]
)
def test_an_address_that_could_be_misread_is_refused(url: str) -> None:
    wrong = Group(revision="a", backends=(Backend(instance="i", url=url),))
    with pytest.raises(Invalid, match="address"):
        rendered(TrafficState(route="web", stable=wrong))


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("web.canary.3f2a@file", ServiceName("web", "canary", "3f2a")),
        ("my-shop.stable.1.2.3", ServiceName("my-shop", "stable", "1.2.3")),
        ("web@file", None),
        ("web.other.3f@file", None),
        ("web.canary.@file", None),
        (".canary.x", None),
        ("web.canary.x@docker", None),
        ("api@internal", None),
        ("", None),
    ],
)
def test_service_names_come_apart(label: str, name: ServiceName | None) -> None:
    assert parse_service_name(label) == name
    if name:
        assert service_name(*name) == label.removesuffix("@file")


def test_edges_of_limits_join_the_ladder() -> None:
    assert bucket_edges(()) == BUCKETS
    assert bucket_edges((0.1, 0.12)) == tuple(sorted((*BUCKETS, 0.12)))
    assert {0.1, 0.2} <= set(BUCKETS), "the guide's limits need no restart"


def test_static_config_keeps_to_itself() -> None:
    config: dict[str, Any] = static_config(
        RouterSpec(listen=":8080"), admin="127.0.0.1:1", dynamic="/d/routes.yaml", log="/l", edges=(0.1, 0.5)
    )
    assert config["global"] == {"checkNewVersion": False, "sendAnonymousUsage": False}
    assert config["entryPoints"]["traefik"]["address"] == "127.0.0.1:1"
    assert config["providers"]["file"] == {"filename": "/d/routes.yaml", "watch": True}
    assert config["entryPoints"]["web"]["address"] == ":8080"
    assert config["providers"]["providersThrottleDuration"] == "50ms"
    assert config["metrics"]["prometheus"]["buckets"] == [0.1, 0.5]
    assert fingerprint(config) == fingerprint(dict(reversed(config.items())))
    assert fingerprint(config) != fingerprint({**config, "log": {}})
