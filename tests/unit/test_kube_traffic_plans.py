"""What the plans of both Kubernetes routers read from objects, case by case."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError
from tests.unit.kube_objects import http_route, ingress, path, rule, shop

from phoenix_orch.kernel.errors import BadState
from phoenix_orch.testing.router_contract import NEW, OLD
from phoenix_orch.traffic.ingress_plan import (
    STICKINESS,
    IngressRecord,
    adopted,
    conflict,
    emergency,
    live_share,
    wanted,
)
from phoenix_orch.traffic.kube_record import last_hand
from phoenix_orch.traffic.kube_spec import Chosen, GatewayTraffic, IngressTraffic, Owner, RouteRef
from phoenix_orch.traffic.route_plan import RouteRecord, differences, steered, untaken
from phoenix_orch.traffic.router import TrafficState

NGINX = "nginx.ingress.kubernetes.io/"


def parent(name: str, *conditions: tuple[str, str, int], **ref: str) -> dict[str, Any]:
    listed = [{"type": kind, "status": status, "observedGeneration": at} for kind, status, at in conditions]
    return {"parentRef": {"name": name, **ref}, "conditions": listed}


GOOD = (("Accepted", "True", 2), ("ResolvedRefs", "True", 2))
BEFORE = (("Accepted", "True", 1), ("ResolvedRefs", "True", 2))
REFUSED = (("Accepted", "False", 2), ("ResolvedRefs", "True", 2))
UNRESOLVED = (("Accepted", "True", 2), ("ResolvedRefs", "False", 2))


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ([parent("a", *GOOD), parent("b", *GOOD)], ""),
        ([parent("a", *GOOD)], "Gateway 'b' has not answered"),
        # it is not attached there, so nothing of it is sent there
        ([parent("a", *GOOD), parent("b", *REFUSED)], ""),
        ([parent("a", *REFUSED), parent("b", *REFUSED)], "no Gateway has accepted it"),
        ([parent("a", *GOOD), parent("b", *UNRESOLVED)], "Gateway 'b' cannot use it"),
        # two controllers answer for one Gateway
        ([parent("a", *GOOD), parent("a", *UNRESOLVED), parent("b", *GOOD)], "Gateway 'a' cannot use it"),
        ([parent("a", *GOOD), parent("b", GOOD[0])], "not answered for the newest change (ResolvedRefs)"),
        ([parent("a", *GOOD), parent("b", *BEFORE)], "not answered for the newest change (Accepted)"),
        ([parent("a", *GOOD, namespace="x"), parent("b", *GOOD, sectionName="web")], "'b' has not answered"),
    ],
)
def test_every_parent_is_asked(answers: list[dict[str, Any]], why: str) -> None:
    route = http_route("shop", rule(("shop", None)), generation=2)
    route["spec"]["parentRefs"] = [{"name": "a"}, {"name": "b"}]
    route["status"] = {"parents": answers}
    assert why in untaken(route)
    assert bool(untaken(route)) == bool(why)


@pytest.mark.parametrize(
    ("said", "share"),
    [
        ({"canary": "true", "canary-weight": "5"}, 5),
        ({"canary-weight": "5"}, 0),
        ({"canary": "true"}, 0),
        ({"canary": "true", "canary-weight": "a lot"}, 0),
        ({"canary": "true", "canary-weight": "50", "canary-weight-total": "1000"}, 5),
        ({"canary": "true", "canary-weight": "5", "canary-weight-total": "10"}, 5),
        ({"canary": "true", "canary-weight": "700"}, 100),
    ],
)
def test_weights_are_read_as_ingress_nginx_reads_them(said: dict[str, str], share: int) -> None:
    found = shop(annotations={f"nginx.ingress.kubernetes.io/{key}": value for key, value in said.items()})
    assert live_share(found) == share


def test_a_manifest_that_is_applied_again_is_the_owners_new_wish() -> None:
    """In the middle of a release at 20 % somebody wants half of the rule for another backend."""
    spec = GatewayTraffic(routes=(RouteRef(name="shop"),), service="shop")
    state = TrafficState(route="shop", version=1, stable=OLD, canary=NEW, weight=20)
    first = {"kind": "HTTPRoute", **http_route("shop", rule(("shop", 9), ("legacy", 1)))}
    record = steered(first, RouteRecord(state=state, spec=spec)).record
    again = {"kind": "HTTPRoute", **http_route("shop", rule(("shop", 5), ("legacy", 5)))}
    wanted = steered(again, record)
    refs = {ref["name"]: ref["weight"] for ref in wanted.rules[0]["backendRefs"]}
    assert refs == {"shop": 80, "shop-canary": 20, "legacy": 100}
    assert differences(again, wanted)
    aborted = wanted.record.model_copy(update={"state": state.model_copy(update={"weight": 0})})
    assert steered({**again, "spec": {"rules": wanted.rules}}, aborted).rules == again["spec"]["rules"]


def test_an_emergency_leaves_no_way_to_the_canary() -> None:
    """All ways in, and clients that a cookie keeps at a pod of the canary."""
    changes = emergency("new")["metadata"]["annotations"]
    assert changes[f"{NGINX}canary-weight"] == "0"
    assert changes[STICKINESS] == "legacy"
    ways = {f"{NGINX}canary-by-{what}" for what in ("header", "header-value", "header-pattern", "cookie")}
    assert {key for key, value in changes.items() if value is None} >= ways


@pytest.mark.parametrize("sticky", [None, "sticky"])
def test_stickiness_of_the_owner_comes_back_with_the_weight(sticky: str | None) -> None:
    theirs = shop("shop-canary", annotations={} if sticky is None else {STICKINESS: sticky})
    state = TrafficState(route="shop", version=1, stable=OLD, canary=NEW)
    record = adopted(state, IngressTraffic(ingress="shop"), "shop-canary", {"kind": "Ingress", **theirs})
    at_rest = wanted(None, None, record)
    assert at_rest.annotations[STICKINESS] == "legacy"
    record = record.model_copy(update={"state": state.model_copy(update={"weight": 5})})
    assert wanted(None, None, record).annotations[STICKINESS] == sticky


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (shop("x", annotations={f"{NGINX}canary": "true"}), ""),  # another host
        (ingress("x", ("shop.example.com", path("x", "/y")), annotations={f"{NGINX}canary": "true"}), ""),
        (ingress("x", ("shop.example.com", path("x")), annotations={f"{NGINX}canary": "true"}), "already"),
        (
            ingress(
                *("x", ("shop.example.com", path("x"))),
                annotations={f"{NGINX}canary": "true"},
                ingressClassName="other",
            ),
            "",
        ),
        (ingress("x", ("x.example.com", path("shop-canary"))), "as its main Service"),
        (ingress("x", ("x.example.com", path("shop"))), ""),
    ],
)
def test_what_stands_in_the_way_of_a_canary(other: dict[str, Any], why: str) -> None:
    main = {"kind": "Ingress", **shop()}
    state = TrafficState(route="shop", version=1, stable=OLD)
    record = adopted(state, IngressTraffic(ingress="shop"), "shop-canary", None)
    found = conflict(main, "shop-canary", record, wanted(main, None, record), [{"kind": "Ingress", **other}])
    assert isinstance(found, BadState) == bool(why)
    assert why in str(found)


def test_a_hand_is_named_only_if_it_came_after_us() -> None:
    def found(*entries: tuple[str, str, str]) -> dict[str, Any]:
        fields = [{"manager": who, "time": when, "subresource": what} for who, when, what in entries]
        return {"metadata": {"managedFields": fields}}

    ours = ("phoenix-orch", "2026-01-01T00:00:05Z", "")
    assert last_hand(found(ours, ("kubectl-create", "2026-01-01T00:00:00Z", "")), "phoenix-orch") == ""
    later = found(ours, ("a", "2026-01-01T00:00:05Z", ""), ("kubectl-edit", "2026-01-01T00:00:06Z", ""))
    assert last_hand(later, "phoenix-orch") == "kubectl-edit at 2026-01-01T00:00:06Z"
    status = found(ours, ("controller", "2026-01-01T00:00:09Z", "status"))
    assert last_hand(status, "phoenix-orch") == ""


@pytest.mark.parametrize(
    "chosen",
    [
        {"value": "me"},
        {"pattern": "me"},
        {"header": "X", "value": "me", "pattern": "me"},
        {"header": "no header"},
        {"cookie": "a;b"},
    ],
)
def test_what_cannot_be_chosen_is_refused(chosen: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Chosen.model_validate(chosen)


@pytest.mark.parametrize("chosen", [{"cookie": "c"}, {"header": "X"}])
def test_what_the_gateway_api_cannot_choose_is_refused(chosen: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="Gateway API"):
        GatewayTraffic(routes=(RouteRef(name="a"),), service="shop", chosen=Chosen.model_validate(chosen))


OWNER = Owner(api_version="phoenix-orch.io/v1alpha1", kind="Rollout", name="shop", uid="2")


def owners(record: IngressRecord, *present: dict[str, Any]) -> list[str] | None:
    """What a patch of a canary Ingress makes of the uids of these owners; None: it leaves them alone."""
    found = shop("shop-canary")
    found["metadata"]["ownerReferences"] = list(present)
    patch = wanted(shop(), found, record).patch(found)
    references = patch["metadata"].get("ownerReferences")
    return None if references is None else [one["uid"] for one in references]


def test_what_phoenix_made_goes_with_its_rollout_and_what_is_anothers_does_not() -> None:
    spec = IngressTraffic(ingress="shop", owner=OWNER)
    state = TrafficState(route="shop", stable=OLD)
    made = adopted(state, spec, "shop-canary", None)
    new = wanted(shop(), None, made).new("shops", "shop-canary")
    assert new["metadata"]["ownerReferences"] == [OWNER.reference()]
    namesake, other = {**OWNER.reference(), "uid": "1"}, {"kind": "Application", "name": "x", "uid": "3"}
    assert owners(made) == ["2"]  # it was made by an older Phoenix
    assert owners(made, other, namesake) == ["3", "2"]
    assert owners(made, OWNER.reference()) is None
    assert owners(adopted(state, spec, "shop-canary", shop("shop-canary"))) is None
