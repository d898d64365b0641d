"""The custom resource definition: its form, its defaults, and what the spec means for the machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from phoenix_orch.rollout import crd
from phoenix_orch.rollout.kubernetes_spec import KubernetesRolloutSpec, read
from phoenix_orch.rollout.kubernetes_status import KubernetesStatus
from phoenix_orch.rollout.spec import GUIDE_PHASES, RolloutSpec
from phoenix_orch.rollout.store.kubernetes_record import with_spec
from phoenix_orch.schema import rollout_page

ROOT = Path(__file__).parents[2]
LEAST: dict[str, Any] = {"workload": {"name": "shop"}, "traffic": {"ingress": "shop"}}


def schemas(schema: dict[str, Any], place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield place, schema
    for key, inner in schema.get("properties", {}).items():
        yield from schemas(inner, f"{place}.{key}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from schemas(schema[key], f"{place}[]")


ALL = dict(schemas(crd.schema()))
SPEC = {place: schema for place, schema in ALL.items() if place.startswith(".spec")}


def test_the_file_is_up_to_date_and_reads_back() -> None:
    text = (ROOT / crd.PATH).read_text(encoding="utf-8")
    assert text.partition("\n")[2] == crd.text()
    assert YAML(typ="safe").load(text) == crd.definition()


def test_every_value_has_one_type_or_is_a_size() -> None:
    for place, schema in ALL.items():
        assert ("type" in schema) != ("x-kubernetes-int-or-string" in schema), place
        assert "$ref" not in schema, place
        assert "anyOf" not in schema or "x-kubernetes-int-or-string" in schema, place


def test_everything_in_the_spec_is_told_and_bounded() -> None:
    """A text without a bound makes every rule about it too dear for the API server."""
    for place, schema in SPEC.items():
        assert schema.get("description") or place.endswith("[]"), place
        if schema.get("type") == "string":
            assert {"maxLength", "enum"} & schema.keys(), place
        if schema.get("type") == "array":
            assert {"maxItems", "x-kubernetes-list-type"} <= schema.keys(), place
        if "additionalProperties" in schema:
            assert "maxProperties" in schema, place


def test_entries_with_names_are_shared_by_name() -> None:
    lists = {place for place, schema in SPEC.items() if schema.get("x-kubernetes-list-type") == "map"}
    assert {place.removeprefix(".spec.") for place in lists} == {
        "phases",
        "checks",
        "evidence.business",
        "evidence.values",
        "evidence.queries",
        "verify.criticalPaths",
    }


def test_no_write_of_a_status_can_be_refused_for_its_values() -> None:
    allowed = {
        *("type", "format", "description", "properties", "items", "additionalProperties"),
        *("x-kubernetes-preserve-unknown-fields", "x-kubernetes-list-type"),
    }
    for place, schema in ALL.items():
        if place.startswith(".status") and not place.startswith(".status.conditions"):
            assert schema.keys() <= allowed, place


def test_the_default_phases_are_the_guides() -> None:
    default = crd.schema()["properties"]["spec"]["properties"]["phases"]["default"]
    spec = KubernetesRolloutSpec.model_validate({**LEAST, "phases": default})
    assert spec.phases == GUIDE_PHASES
    assert [phase["name"] for phase in default] == ["initial", "expanded", "full"]


def filled(schema: dict[str, Any], value: Any) -> Any:
    """As the API server fills in defaults."""
    if isinstance(value, dict) and "properties" in schema:
        defaults = {k: s["default"] for k, s in schema["properties"].items() if "default" in s}
        return {k: filled(schema["properties"][k], v) for k, v in {**defaults, **value}.items()}
    if isinstance(value, list):
        return [filled(schema["items"], inner) for inner in value]
    return value


def test_written_defaults_mean_what_is_left_out() -> None:
    written = filled(crd.schema()["properties"]["spec"], LEAST)
    assert KubernetesRolloutSpec.model_validate(written) == KubernetesRolloutSpec.model_validate(LEAST)
    assert written["policy"]["bake"] == "30m"
    assert "statistical" not in written["policy"]


def test_what_is_left_out_of_the_statistics_is_told() -> None:
    assert "Default: 0.01." in ALL[".spec.policy.statistical.alpha"]["description"]


def test_the_machine_gets_the_spec_it_knows() -> None:
    spec = KubernetesRolloutSpec.model_validate(
        {
            **LEAST,
            "evidence": {"interval": "5s", "values": [{"name": "q", "gauge": "q", "maximum": 1}]},
            "checks": [
                {"name": "login", "http": {"url": "{canary}/"}, "threshold": 7},
                {"name": "smoke", "job": {"cronJob": "smoke"}},
            ],
            "policy": {"bake": "1h", "promotion": "external"},
        }
    )
    assert spec.common() == RolloutSpec.model_validate(
        {
            "evidence": {"interval": "5s", "values": [{"name": "q", "gauge": "q", "maximum": 1}]},
            "checks": [{"name": "login", "http": {"url": "{canary}/"}, "threshold": 7}],
            "policy": {"bake": "1h"},
        }
    )
    assert RolloutSpec.model_validate_json(spec.common().model_dump_json()) == spec.common()


def test_a_query_is_a_value_to_the_judge_and_stays_a_query_in_the_object() -> None:
    queries = [{"name": "paid", "query": "sum(paid)", "minimum": 0.9}]
    values = [{"name": "queue", "gauge": "queue_length", "maximum": 1}]
    found = {
        "metadata": {"name": "shop"},
        "spec": {**LEAST, "evidence": {"queries": queries, "values": values}},
    }
    common = KubernetesRolloutSpec.model_validate(found["spec"]).common()
    assert [(one.name, one.minimum, one.maximum) for one in common.evidence.values] == [
        ("queue", None, 1),
        ("paid", 0.9, None),
    ]
    assert RolloutSpec.model_validate_json(common.model_dump_json()) == common
    written = KubernetesRolloutSpec.model_validate(with_spec(found, common)["spec"])
    assert written.common() == common
    assert [one.name for one in written.evidence.values] == ["queue"]
    assert [one.name for one in written.evidence.queries] == ["paid"]


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        (LEAST, ("shop-canary", "shop", "shop-canary")),
        ({**LEAST, "canary": {"name": "next"}}, ("next", "shop", "next")),
        (
            {**LEAST, "traffic": {"httpRoute": "r", "service": "a", "canaryService": "b"}},
            ("shop-canary", "a", "b"),
        ),
    ],
)
def test_names_that_are_left_out(spec: dict[str, Any], names: tuple[str, ...]) -> None:
    found = KubernetesRolloutSpec.model_validate(spec)
    assert (found.canary_name, found.service, found.canary_service) == names


def test_a_manifest_is_read_as_strictly_as_by_the_api_server() -> None:
    manifest = YAML(typ="safe").load(rollout_page.example())
    assert read({**manifest, "status": {"x": 1}}).spec.evidence.business[0].min_per_request == 0.9
    spec = {**manifest["spec"], "canary": {"minReplicas": "2"}}
    with pytest.raises(ValidationError, match=r"minReplicas\n.*valid integer"):
        read({**manifest, "spec": spec})
    with pytest.raises(ValidationError, match="apiVersion"):
        read({**manifest, "apiVersion": "phoenix-orch.io/v1"})


def test_the_memory_of_a_status_is_all_of_it() -> None:
    status = KubernetesStatus(step=3, weight=20, stable="a", phase="full", weight_seen=20)
    assert status.memory().model_dump() == {
        key: value for key, value in status.model_dump().items() if key in status.memory().model_dump()
    }
    assert (status.memory().step, status.memory().weight) == (3, 20)
