"""What is wrong is refused by the API server, with a message that names the place."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from tests.cluster import rollouts
from tests.cluster.kubectl import Cluster, Refused
from tests.cluster.rollouts import LEAST, Door, manifest
from tests.cluster.specs import FALSE, FALSE_TEXTS, MISPLACED

from phoenix_orch.rollout import crd
from phoenix_orch.rollout.kubernetes_spec import read

SCHEMA = crd.schema()["properties"]["spec"]
Path = tuple[str | int, ...]

FIXED = {"name": "first", "weight": 5, "duration": "10m"}
STEEP = {"name": "full", "step": 20, "every": "5m"}
HTTP = {"url": "{route}/health", "method": "GET", "status": 200, "contains": "ok"}
ONE: dict[str, Any] = {
    "workload": {"kind": "Deployment", "name": "shop"},
    "canary": {"name": "shop-next", "minReplicas": 2},
    "traffic": {
        "ingress": "shop.example.com",
        "additional": ["shop-internal"],
        "service": "shop",
        "canaryService": "shop-next",
        "url": "https://shop.example.com",
        "canaryBy": {"header": "X-Canary", "value": "tester", "cookie": "canary"},
        "weightTotal": 1000,
    },
    "phases": [
        {
            **FIXED,
            "limits": {
                "errorRate": "0.1%",
                "latencyP95": "100ms",
                "latencyP99": "1s",
                "cpu": "80%",
                "memory": "512Mi",
            },
            "budget": 10,
            "earlyAdvance": True,
        },
        {**STEEP, "maxWeight": 85},
    ],
    "evidence": {
        "source": "prometheus",
        "prometheus": "default",
        "requests": "traefik",
        "interval": "10s",
        "window": "1m",
        "business": [
            {
                "name": "orders",
                "counter": "orders_total",
                "labels": {"shop": "eu"},
                "minPerRequest": 0.1,
                "maxPerRequest": 2.5,
            }
        ],
        "values": [
            {"name": "queue", "gauge": "queue_length", "labels": {"shop": "eu"}, "maximum": 100.5},
            {"name": "rate", "gauge": "success", "minimum": 0.5},
        ],
        "queries": [
            {"name": "lag", "query": "max(lag{pod=~'{pods}'})", "maximum": 5.5},
            {"name": "hits", "query": "min(hits)", "minimum": 0.5},
        ],
    },
    "checks": [
        {"name": "login", "http": HTTP, "interval": "10s", "timeout": "5s", "threshold": 3},
        {"name": "smoke", "job": {"cronJob": "smoke-test"}},
    ],
    "policy": {
        "gate": "statistical",
        "onEnvironment": "hold",
        "onRelativeRegression": "hold",
        "onNoDecision": "pause",
        "earlyAdvance": False,
        "minRequests": 10,
        "noData": "hold",
        "holdTimeout": "1h",
        "onHoldTimeout": "pause",
        "staleVerdict": "2m",
        "onStaleVerdict": "hold",
        "onFailure": "pause",
        "bake": "30m",
        "progressDeadline": "10m",
        "crashLoop": {"exits": 2, "within": "5m"},
        "promotion": "external",
        "statistical": {
            "tier": "proven",
            "warmUp": "30s",
            "history": "6h",
            "historyWindow": "2m",
            "materiality": "0.02%",
            "latencyTolerance": "10%",
            "abandonedMateriality": "1%",
            "resourceTolerance": "20%",
        },
    },
    "verify": {
        "window": "1m",
        "logs": {"bad": ["FATAL"]},
        "criticalPaths": [{"name": "login", "http": {**HTTP, "url": "{route}/login"}, "timeout": "5s"}],
    },
}
OTHER: dict[str, Any] = {**ONE, "traffic": {"httpRoute": "shop"}}
CHOSEN: dict[str, Any] = {
    **ONE,
    "traffic": {"ingress": "shop", "canaryBy": {"header": "X-Region", "pattern": "^eu-.*$"}},
}


@pytest.fixture(scope="module")
def door(cluster: Cluster) -> Iterator[Door]:
    rollouts.define(cluster)
    with rollouts.door(cluster) as opened:
        yield opened


def leaves(schema: dict[str, Any], value: Any, path: Path = ()) -> Iterator[tuple[Path, dict[str, Any], Any]]:
    """Every value below, with its schema."""
    yield path, schema, value
    if isinstance(value, dict) and "properties" in schema:
        for key, inner in value.items():
            yield from leaves(schema["properties"][key], inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from leaves(schema["items"], inner, (*path, index))


def named(path: Path) -> str:
    """As Kubernetes writes it."""
    return "spec" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)


def replaced(spec: dict[str, Any], path: Path, value: Any) -> dict[str, Any]:
    made = copy.deepcopy(spec)
    here: Any = made
    for part in path[:-1]:
        here = here[part]
    here[path[-1]] = value
    return made


def faults(path: Path, schema: dict[str, Any], value: Any) -> Iterator[tuple[Any, str]]:
    """(wrong value, the place that has to be named) for one place."""
    key = next((part for part in reversed(path) if isinstance(part, str)), "")
    place = named(path)
    number = schema.get("type") in ("integer", "number") or "x-kubernetes-int-or-string" in schema
    for wrong in MISPLACED:
        fits = isinstance(wrong, str) and isinstance(value, str)  # texts have their own faults
        fits |= number and isinstance(wrong, int | float) and not isinstance(wrong, bool)
        fits |= type(wrong) is type(value)
        if not fits and not (wrong == "text" and "x-kubernetes-int-or-string" in schema):
            yield wrong, place
    yield from ((wrong, place) for wrong in FALSE.get(schema.get("pattern", ""), ()))
    if schema.get("type") == "string":
        yield from ((wrong, place) for wrong in FALSE_TEXTS.get(key, ()))
    if "enum" in schema:
        yield "other", place
    if "minimum" in schema:
        yield schema["minimum"] - 1, place
        if schema.get("exclusiveMinimum"):
            yield schema["minimum"], place
    if "maximum" in schema:
        yield schema["maximum"] + 1, place
    if "maxLength" in schema and schema.get("type") == "string":
        yield "y" * (schema["maxLength"] + 1), place
    if "maxItems" in schema:
        yield [value[0]] * (schema["maxItems"] + 1), place
    if "properties" in schema:
        yield {**value, "wieght": 1}, f"{place}.wieght"
        for required in schema.get("required", ()):
            yield {k: v for k, v in value.items() if k != required}, f"{place}.{required}"


def _cases() -> list[tuple[str, dict[str, Any], str]]:
    cases = []
    for spec in (ONE, OTHER, CHOSEN):
        for path, schema, value in leaves(SCHEMA, spec):
            if path and (spec is ONE or path[0] == "traffic"):
                cases += [
                    (place, replaced(spec, path, wrong), f"{wrong!r:.40}")
                    for wrong, place in faults(path, schema, value)
                ]
    return cases


def test_the_table_has_every_field() -> None:
    """But the parameters of the statistics that differ from others in their name only."""
    have = {named(path) for spec in (ONE, OTHER, CHOSEN) for path, _, _ in leaves(SCHEMA, spec)}
    have = {re.sub(r"\[\d+\]", "[]", place) for place in have}
    wanted = set(_places(SCHEMA, "spec"))
    assert {place for place in wanted - have if ".statistical." not in place} == set()


def _places(schema: dict[str, Any], place: str) -> Iterator[str]:
    yield place
    for key, inner in schema.get("properties", {}).items():
        yield from _places(inner, f"{place}.{key}")
    if "items" in schema:
        yield from _places(schema["items"], f"{place}[]")


@pytest.mark.parametrize("spec", [ONE, OTHER, CHOSEN, LEAST], ids=["ingress", "httpRoute", "chosen", "least"])
def test_what_is_right_is_taken(door: Door, spec: dict[str, Any]) -> None:
    assert door.refusal(spec) == ""
    read(manifest(spec))


@pytest.mark.slow
def test_every_wrong_value_is_refused_with_its_place(door: Door) -> None:
    taken, vague = [], []
    cases = _cases()
    for place, spec, wrong in cases:
        said = door.refusal(spec)
        if not said:
            taken.append((place, wrong))
        elif place not in said:
            vague.append((place, wrong, said))
    assert taken == []
    assert vague == []
    assert len(cases) > 900


CROSS_FIELD: dict[str, tuple[dict[str, Any], str]] = {
    "a weight that does not rise": (
        {"phases": [FIXED, {**FIXED, "name": "second"}]},
        "spec.phases: Invalid value: the weights have to rise",
    ),
    "a weight that falls": (
        {"phases": [{**FIXED, "weight": 20}, {**FIXED, "name": "second"}]},
        "spec.phases: Invalid value: the weights have to rise",
    ),
    "a phase after the staircase": (
        {"phases": [STEEP, {**FIXED, "weight": 100}]},
        "spec.phases: Invalid value: the weights have to rise",
    ),
    "two staircases": (
        {"phases": [STEEP, {**STEEP, "name": "again"}]},
        "spec.phases: Invalid value: the weights have to rise",
    ),
    "a cap of a single weight": (
        {"phases": [{**FIXED, "maxWeight": 50}]},
        "spec.phases[0]: Invalid value: 'maxWeight' is the end of a staircase",
    ),
    "a cap below the weight before it": (
        {"phases": [{**FIXED, "weight": 20}, {**STEEP, "maxWeight": 20}]},
        "spec.phases: Invalid value: the weights have to rise",
    ),
    "two phases of one name": (
        {"phases": [FIXED, {**STEEP, "name": "first"}]},
        "spec.phases[1]: Duplicate value",
    ),
    "no phases": ({"phases": []}, "spec.phases in body should have at least 1 items"),
    "a phase of both forms": (
        {"phases": [{**FIXED, "step": 5}]},
        "spec.phases[0]: Invalid value: a phase has either 'weight' and 'duration', or 'step' and 'every'",
    ),
    "a phase of no form": ({"phases": [{"name": "a"}]}, "spec.phases[0]: Invalid value: a phase has either"),
    "two kinds of traffic": (
        {"traffic": {"ingress": "shop", "httpRoute": "shop"}},
        "spec.traffic: Invalid value: traffic has exactly one of 'ingress' and 'httpRoute'",
    ),
    "chosen requests of an HTTPRoute": (
        {"traffic": {"httpRoute": "shop", "canaryBy": {"header": "X-Canary"}}},
        "spec.traffic: Invalid value: 'canaryBy' and 'weightTotal' need an 'ingress'",
    ),
    "a total of an HTTPRoute": (
        {"traffic": {"httpRoute": "shop", "weightTotal": 1000}},
        "spec.traffic: Invalid value: 'canaryBy' and 'weightTotal' need an 'ingress'",
    ),
    "nothing that chooses": (
        {"traffic": {"ingress": "shop", "canaryBy": {}}},
        "spec.traffic.canaryBy: Invalid value: 'canaryBy' needs 'header' or 'cookie'",
    ),
    "a value of no header": (
        {"traffic": {"ingress": "shop", "canaryBy": {"cookie": "canary", "value": "a"}}},
        "'value' and 'pattern' say what a header has to be; name the 'header'",
    ),
    "a value and a pattern": (
        {"traffic": {"ingress": "shop", "canaryBy": {"header": "a", "value": "a", "pattern": "a"}}},
        "'canaryBy' has at most one of 'value' and 'pattern'",
    ),
    "no traffic": ({"traffic": {}}, "spec.traffic: Invalid value: traffic has exactly one of"),
    "the same object twice": (
        {"traffic": {"ingress": "shop", "additional": ["shop"]}},
        "spec.traffic: Invalid value: 'additional' has an object that is named already",
    ),
    "an additional object twice": (
        {"traffic": {"ingress": "shop", "additional": ["a", "a"]}},
        'spec.traffic.additional[1]: Duplicate value: "a"',
    ),
    "a StatefulSet": (
        {"workload": {"kind": "StatefulSet", "name": "shop"}},
        'spec.workload.kind: Unsupported value: "StatefulSet": supported values: "Deployment"',
    ),
    "the canary is the workload": (
        {"canary": {"name": "shop"}},
        "the canary needs another name than the workload",
    ),
    "a workload whose canary has no name": (
        {"workload": {"name": "w" * 57}},
        "the workload's name and '-canary' are longer than 63; name the canary",
    ),
    "one Service for both": (
        {"traffic": {"ingress": "shop", "canaryService": "shop"}},
        "the canary needs another Service than the stable variant",
    ),
    "an interval above the window": (
        {"evidence": {"interval": "2m"}},
        "spec.evidence: Invalid value: 'interval' has to be above 0 and no longer than 'window'",
    ),
    "no interval": (
        {"evidence": {"interval": "0s"}},
        "spec.evidence: Invalid value: 'interval' has to be above 0",
    ),
    "queries without Prometheus": (
        {"evidence": {"source": "pods", "queries": [{"name": "a", "query": "up", "minimum": 1}]}},
        "spec.evidence: Invalid value: 'queries' need the source prometheus",
    ),
    "a business metric without a bound": (
        {"evidence": {"business": [{"name": "a", "counter": "a"}]}},
        "spec.evidence.business[0]: Invalid value: a business metric needs",
    ),
    "a value with two bounds": (
        {"evidence": {"values": [{"name": "a", "gauge": "a", "minimum": 1, "maximum": 2}]}},
        "spec.evidence.values[0]: Invalid value: a plain value needs one of",
    ),
    "a check of two kinds": (
        {"checks": [{"name": "a", "http": HTTP, "job": {"cronJob": "a"}}]},
        "spec.checks[0]: Invalid value: a check has exactly one of 'http' and 'job'",
    ),
    "a check without end": (
        {"checks": [{"name": "a", "http": HTTP, "timeout": "0s"}]},
        "spec.checks[0]: Invalid value: 'interval' and 'timeout' have to be above 0",
    ),
    "a placeholder that means nothing": (
        {"checks": [{"name": "a", "http": {"url": "http://x/{prot}"}}]},
        'spec.checks[0].http.url: Invalid value: "http://x/{prot}": a placeholder that means nothing',
    ),
    "a critical path of the canary": (
        {"verify": {"criticalPaths": [{"name": "a", "http": {"url": "{canary}/x"}}]}},
        "spec.verify.criticalPaths[0]: Invalid value: a placeholder that means nothing; allowed: {route}",
    ),
    "an expression that RE2 does not know": (
        {"verify": {"logs": {"bad": ["(?=x)"]}}},
        'spec.verify.logs.bad[0]: Invalid value: "string": error parsing regexp',
    ),
    "no share counts": (
        {
            "policy": {
                "statistical": {
                    "shares": {"errorsAgainstLimit": 0, "errorsAgainstStable": 0, "latencyAgainstLimit": 0}
                }
            }
        },
        "spec.policy.statistical.shares: Invalid value: some share of errors or latency has to be above 0",
    ),
    "a duration of eleven years": (
        {"policy": {"bake": "4000d"}},
        'spec.policy.bake: Invalid value: "4000d": 4000d is longer than ten years',
    ),
    "no unit": (
        {"policy": {"bake": "10"}},
        'spec.policy.bake: Invalid value: "10": 10 is not a duration; write a number and a unit',
    ),
    "a share without its sign": (
        {"phases": [{**FIXED, "limits": {"errorRate": "0.1"}}]},
        "this is not a share of at most 100%; write a percentage with its sign: 0.1%, 5%",
    ),
}


@pytest.mark.parametrize("case", CROSS_FIELD)
def test_a_cross_field_rule_says_what_is_wrong(door: Door, case: str) -> None:
    change, message = CROSS_FIELD[case]
    assert message in door.refusal({**LEAST, **change})


@pytest.mark.parametrize("name", ["a.b", "x" * 64])
def test_a_name_that_is_no_label_is_refused(door: Door, name: str) -> None:
    assert "metadata.name of a rollout has 1 to 63" in door.refusal(LEAST, name)


def test_the_workload_stays(cluster: Cluster, namespace: str) -> None:
    rollouts.define(cluster)
    cluster.apply(manifest(LEAST, namespace=namespace))
    cluster.apply(manifest({**LEAST, "traffic": {"ingress": "other"}}, namespace=namespace))
    with pytest.raises(Refused, match=r"spec\.workload: Invalid value: the workload of a rollout cannot be"):
        cluster.apply(manifest({**LEAST, "workload": {"name": "other"}}, namespace=namespace))


CARRIERS: tuple[dict[str, Any], ...] = (
    {"ingress": "other"},
    {"httpRoute": "shop"},
    {"ingress": "shop", "additional": ["other"]},
    {"ingress": "shop", "service": "other"},
    {"ingress": "shop", "canaryService": "other"},
)


def test_what_carries_the_weight_stays_while_a_release_is_on_its_way(
    cluster: Cluster, namespace: str
) -> None:
    rollouts.define(cluster)

    def put(traffic: dict[str, Any]) -> None:
        cluster.apply(manifest({**LEAST, "traffic": traffic}, namespace=namespace))

    def stand(state: str) -> None:
        status = json.dumps({"status": {"state": state}})
        words = ("patch", rollouts.RESOURCE, "shop", "-n", namespace, "--subresource=status")
        cluster.kubectl(*words, "--type=merge", "-p", status)

    put({"ingress": "shop"})
    stand("Progressing")
    for traffic in CARRIERS:
        with pytest.raises(Refused, match="cannot be changed while a release is on its way"):
            put(traffic)
    put({"ingress": "shop", "url": "https://shop.example.com"})
    stand("RollingBack")
    with pytest.raises(Refused, match="cannot be changed while a release is on its way"):
        put({"httpRoute": "shop"})
    for state, traffic in zip(("Initializing", "Idle", "Promoted", "RolledBack"), CARRIERS, strict=False):
        stand(state)
        put(traffic)


def test_kubectl_refuses_a_misspelt_key(cluster: Cluster, namespace: str) -> None:
    rollouts.define(cluster)
    with pytest.raises(Refused, match=r'unknown field "(spec\.)?faces"'):
        cluster.apply(manifest({**LEAST, "faces": []}, namespace=namespace))
