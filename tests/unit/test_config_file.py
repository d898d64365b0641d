"""phoenix.yaml as a whole: what is filled in, and what is published about it."""

from __future__ import annotations

import importlib.resources
import json
from pathlib import Path

import pytest

from phoenix_orch.orchestrator.config import PhoenixFile, load, schema
from phoenix_orch.rollout.spec import GUIDE_PHASES, RolloutSpec
from phoenix_orch.schema import reference

ROOT = Path(__file__).parents[2]


def config(*, routes, **parts):
    """Two services, web and api; one that no route leads to gets one."""
    services = {"web": {"command": "a {port}"}, "api": {"command": "b {port}"}}
    reached = {route["service"] for route in routes.values()}
    routes |= {f"to-{name}": {"service": name, "host": name} for name in services if name not in reached}
    return PhoenixFile.model_validate({"services": services, "routes": routes, **parts})


def test_a_routed_service_without_an_entry_is_released_as_the_guide_says():
    found = config(routes={"front": {"service": "web"}}).effective_rollouts()
    assert list(found) == ["web", "api"]
    assert (found["web"].service, found["web"].route) == ("web", "front")
    assert found["web"].spec() == RolloutSpec()
    assert found["web"].phases == GUIDE_PHASES


def test_service_and_route_of_an_entry_are_filled_in():
    found = config(
        routes={"front": {"service": "web"}, "back": {"service": "api", "pathPrefix": "/api"}},
        rollouts={"shop": {"service": "web", "policy": {"bake": "1m"}}},
    ).effective_rollouts()
    assert {name: (entry.service, entry.route) for name, entry in found.items()} == {
        "shop": ("web", "front"),
        "api": ("api", "back"),
    }
    assert found["shop"].spec().policy.bake.total_seconds() == 60


def test_the_entry_of_a_service_with_two_routes_chooses_one():
    routes = {"a": {"service": "web"}, "b": {"service": "web", "pathPrefix": "/b"}}
    assert config(routes=routes, rollouts={"web": {"route": "b"}}).effective_rollouts()["web"].route == "b"


def test_working_directories_become_absolute_when_the_file_is_loaded(tmp_path, monkeypatch):
    (tmp_path / "app").mkdir()
    path = tmp_path / "phoenix.yaml"
    path.write_text(
        "services:\n  a: {command: 'x {port}'}\n  b: {command: 'x {port}', cwd: app}\n"
        "routes:\n  a: {service: a}\n  b: {service: b, host: b}\n"
    )
    monkeypatch.chdir(tmp_path.parent)
    found = load(Path(tmp_path.name) / "phoenix.yaml")
    assert (found.services["a"].cwd, found.services["b"].cwd) == (str(tmp_path), str(tmp_path / "app"))


def test_a_file_survives_the_way_over_json():
    before = config(
        routes={"web": {"service": "web"}},
        rollouts={
            "web": {
                "phases": [{"name": "a", "weight": 7, "duration": "90s", "limits": {"errorRate": "0.1%"}}]
            }
        },
    )
    assert PhoenixFile.model_validate_json(before.model_dump_json(by_alias=True)) == before


def test_the_written_example_is_valid_and_gives_the_guides_phases(tmp_path):
    text = (
        importlib.resources.files("phoenix_orch.schema").joinpath("template.yaml").read_text(encoding="utf-8")
    )
    path = tmp_path / "phoenix.yaml"
    path.write_text(text)
    assert load(path).effective_rollouts()["web"].spec() == RolloutSpec()


@pytest.mark.parametrize("name", sorted(reference.files()))
def test_generated_files_are_fresh(name):
    assert (ROOT / name).read_text(encoding="utf-8") == reference.files()[name], "run `make docs`"


def test_the_schema_tells_what_each_key_is_for():
    found = schema()
    service = found["$defs"]["ServiceSpec"]["properties"]
    assert {"type": "string"} in service["command"]["anyOf"]
    assert service["drain"]["description"].startswith("Time between leaving the router")
    assert found["$defs"]["Limits"]["properties"]["latencyP95"]["anyOf"][0]["pattern"]
    assert found["additionalProperties"] is False
    json.dumps(found)
