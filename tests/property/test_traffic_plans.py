"""The plans of both Kubernetes routers under random objects: exact shares, nothing foreign touched."""

from __future__ import annotations

import copy
from fractions import Fraction
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.kube_fake import NAMESPACE, merged

from phoenix_orch.testing.router_contract import NEW, OLD
from phoenix_orch.traffic import ingress_plan, route_plan
from phoenix_orch.traffic.kube_record import ROUTE, record_of
from phoenix_orch.traffic.kube_spec import Chosen, GatewayTraffic, IngressTraffic, RouteRef
from phoenix_orch.traffic.router import TrafficState

Object = dict[str, Any]

shares = st.integers(0, 100)
hosts = st.sampled_from(["", "a.example.com", "b.example.com"])
paths = st.fixed_dictionaries(
    {
        "path": st.sampled_from(["/", "/a", "/b"]),
        "pathType": st.sampled_from(["Prefix", "Exact", "ImplementationSpecific"]),
        "backend": st.builds(
            lambda name: {"service": {"name": name, "port": {"number": 80}}},
            st.sampled_from(["shop", "docs"]),
        ),
    }
)
SHOP = {
    "path": "/shop",
    "pathType": "Prefix",
    "backend": {"service": {"name": "shop", "port": {"name": "web"}}},
}
foreign = st.dictionaries(
    st.sampled_from(["team", "example.com/x", "nginx.ingress.kubernetes.io/proxy-body-size"]),
    st.text("abc", max_size=3),
)
steering = st.dictionaries(st.sampled_from(ingress_plan.STEERING), st.sampled_from(["true", "7", "x"]))


@st.composite
def mains(draw: st.DrawFn) -> Object:
    rules = [
        {"host": host, "http": {"paths": listed}}
        for host, listed in draw(
            st.lists(st.tuples(hosts, st.lists(paths, min_size=1, max_size=3)), max_size=3)
        )
    ]
    spec: Object = {"rules": [*rules, {"host": "shop.example.com", "http": {"paths": [SHOP]}}]}
    if draw(st.booleans()):
        spec["tls"] = [{"hosts": ["shop.example.com"], "secretName": "tls"}]
    if draw(st.booleans()):
        spec["ingressClassName"] = "nginx"
    if draw(st.booleans()):
        name = draw(st.sampled_from(["shop", "docs"]))
        spec["defaultBackend"] = {"service": {"name": name, "port": {"number": 80}}}
    return {
        "kind": "Ingress",
        "metadata": {"name": "shop", "namespace": NAMESPACE, "annotations": draw(foreign)},
        "spec": spec,
    }


def state(share: int, *, latched: bool = False) -> TrafficState:
    aborted = ("new",) if latched else ()
    return TrafficState(
        route="shop", version=1, stable=OLD, canary=NEW, weight=0 if latched else share, aborted=aborted
    )


def bare(annotations: dict[str, str]) -> Object:
    """A canary Ingress as somebody made it."""
    return {
        "kind": "Ingress",
        "metadata": {"name": "shop-canary", "annotations": annotations},
        "spec": {"defaultBackend": {"service": {"name": "x", "port": {"number": 1}}}},
    }


@given(
    st.lists(st.tuples(mains(), shares, st.booleans()), min_size=1, max_size=4),
    foreign,
    st.one_of(st.none(), steering),
    st.sampled_from([100, 1000]),
)
def test_ingress(
    story: list[tuple[Object, int, bool]], theirs: dict[str, str], stale: dict[str, str] | None, total: int
) -> None:
    """The main Ingress changes, weights change, hands change: each write makes everything right."""
    spec = IngressTraffic(ingress="shop", service="shop", weight_total=total, chosen=Chosen(cookie="c"))
    found = bare({**theirs, **(stale or {})})
    before = copy.deepcopy(found)
    record = ingress_plan.adopted(state(0), spec, "shop-canary", found)
    for main, share, latched in story:
        given_main = copy.deepcopy(main)
        record = record.model_copy(update={"state": state(share, latched=latched)})
        wanted = ingress_plan.wanted(main, found, record)
        found = merged(found, wanted.patch(found))
        assert main == given_main
        assert ingress_plan.differences(found, ingress_plan.wanted(main, found, record)) == ()
        assert ingress_plan.live_share(found) == (0 if latched else share)
        assert (ingress_plan.BY_COOKIE in found["metadata"]["annotations"]) is not latched
        assert requests_of(found, "shop-canary") == requests_of(main, "shop")
        assert found["spec"].get("tls") == main["spec"].get("tls")
        copied = main["metadata"]["annotations"]
        assert copied.items() <= found["metadata"]["annotations"].items()
        record = record_of(found, ingress_plan.IngressRecord) or record
    changes = ingress_plan.removal(found, record)
    assert changes is not None
    left = merged(found, changes)["metadata"]
    assert ROUTE not in left["labels"]
    kept = {key: value for key, value in left["annotations"].items() if key not in ingress_plan.STEERING}
    assert kept.items() <= before["metadata"]["annotations"].items()
    assert ingress_plan.live_share({"metadata": left}) == 0


def requests_of(found: Object, service: str) -> list[tuple[str, str, str, Any]]:
    listed = [
        (rule["host"], one["path"], one["pathType"], one["backend"]["service"]["port"])
        for rule in found["spec"].get("rules") or []
        for one in rule["http"]["paths"]
        if one["backend"]["service"]["name"] == service
    ]
    other = found["spec"].get("defaultBackend", {}).get("service", {})
    return listed + ([("*", "", "", other["port"])] if other.get("name") == service else [])


refs = st.builds(
    lambda name, weight: {"name": name, "port": 80, **({} if weight is None else {"weight": weight})},
    st.sampled_from(["docs", "legacy", "beta"]),
    st.one_of(st.none(), st.integers(0, 1000)),
)


@st.composite
def rules(draw: st.DrawFn, number: int) -> Object:
    others = draw(st.lists(refs, max_size=3, unique_by=lambda ref: ref["name"]))
    stable = draw(st.one_of(st.none(), st.integers(1, 1000)))
    if draw(st.booleans()):
        others.append({"name": "shop", "port": 80, **({} if stable is None else {"weight": stable})})
        if draw(st.booleans()):
            others.append({"name": "shop-canary", "port": 80, "weight": draw(st.sampled_from([0, 0, 5]))})
    listed = draw(st.permutations(others))
    rule: Object = {
        "matches": [{"path": {"type": "PathPrefix", "value": f"/{number}"}}],
        "backendRefs": list(listed),
    }
    if draw(st.booleans()):
        rule["filters"] = [{"type": "URLRewrite", "urlRewrite": {"hostname": "x"}}]
    return rule


@st.composite
def routes(draw: st.DrawFn) -> Object:
    listed = [draw(rules(number)) for number in range(draw(st.integers(0, 3)))]
    listed.append({"backendRefs": [{"name": "shop", "port": 80}], "matches": [{"method": "GET"}]})
    return {
        "kind": "HTTPRoute",
        "metadata": {"name": "shop", "namespace": NAMESPACE},
        "spec": {"rules": draw(st.permutations(listed))},
    }


moves = st.lists(st.tuples(shares, st.booleans(), st.booleans()), min_size=1, max_size=5)


@given(routes(), moves, st.booleans())
def test_route(found: Object, story: list[tuple[int, bool, bool]], choose: bool) -> None:
    """Shares are exact, other rules and the parts of other backends stay, and the end is the beginning."""
    chosen = Chosen(header="X", value="me") if choose else Chosen()
    spec = GatewayTraffic(routes=(RouteRef(name="shop"),), service="shop", chosen=chosen)
    before = copy.deepcopy(found)
    record = route_plan.RouteRecord(state=state(0), spec=spec)
    for share, latched, meddle in story:
        record = record.model_copy(update={"state": state(share, latched=latched)})
        wanted = route_plan.steered(found, record)
        found = merged(found, wanted.patch(found))
        record = record_of(found, route_plan.RouteRecord) or record
        assert route_plan.differences(found, route_plan.steered(found, record)) == ()
        assert route_plan.live_share(found, spec) == (0 if latched else share)
        added = [rule for rule in found["spec"]["rules"] if rule.get("name", "").startswith("phoenix-chosen")]
        assert bool(added) is (choose and not latched)
        own = [rule for rule in found["spec"]["rules"] if rule not in added]
        for is_now, was in zip(own, before["spec"]["rules"], strict=True):
            assert {**is_now, "backendRefs": 0} == {**was, "backendRefs": 0}
            split(is_now, was, 0 if latched else share)
        if meddle and not latched and share not in {0, 100}:
            for rule in own:
                for ref in rule["backendRefs"]:
                    if ref["name"] == "shop-canary":
                        ref["weight"] += 1
            assert route_plan.differences(found, route_plan.steered(found, record))
    left = merged(found, route_plan.removal(found, record))
    for is_now, was in zip(left["spec"]["rules"], before["spec"]["rules"], strict=True):
        split(is_now, was, 0)
        canary = [ref for ref in was["backendRefs"] if ref["name"] == "shop-canary" and ref["weight"]]
        assert canary or is_now == was


def split(is_now: Object, was: Object, share: int) -> None:
    """Every backend's part of a rule is what it was; stable's is split by `share`."""
    old, new = parts(was), parts(is_now)
    ours = old.pop("shop", Fraction(0))
    if not any(ref["name"] == "shop" for ref in was["backendRefs"]):
        assert is_now == was
        return
    both = ours + old.pop("shop-canary", Fraction(0))
    assert new.pop("shop") == both * (100 - share) / 100
    assert new.pop("shop-canary", Fraction(0)) == both * share / 100
    assert new == old


def parts(rule: Object) -> dict[str, Fraction]:
    weights = {ref["name"]: ref.get("weight", 1) for ref in rule["backendRefs"]}
    total = sum(weights.values())
    return {name: Fraction(weight, total or 1) for name, weight in weights.items()}
