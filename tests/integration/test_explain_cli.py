"""explain, observations, plan and calibrate against the real API."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from ruamel.yaml import YAML
from tests.integration.fake_phoenix import NEW, NOW, FakeOperations, serving, view
from tests.unit import recorded

from phoenix_orch.cli import explaining, main, output
from phoenix_orch.health_validator.recording import read_jsonl
from phoenix_orch.health_validator.resting import is_rest, past
from phoenix_orch.rollout.spec import Policy
from phoenix_orch.rollout.status import Outcome, Release, State

BEGAN = NOW - timedelta(minutes=7)
SPEC = recorded.SPEC.model_copy(update={"policy": Policy(gate="literal")})


class Recorded(FakeOperations):
    """A rollout with an hour of rest behind it and a release of which something is known."""

    def __init__(self) -> None:
        super().__init__()
        self.show(State.PROGRESSING)
        self.log = self.made(failing=0.2)

    def made(self, **how):
        rest = recorded.release(
            walk=((0, timedelta(hours=1)),), began=BEGAN - timedelta(hours=1), stable_failing=0.004, rps=20
        )
        release = recorded.release(began=BEGAN, revision=NEW, fails_from=timedelta(minutes=1), **how)
        return [*past(rest.observations), *release.observations]

    def show(self, state: State, **status) -> None:
        picture = view(state, release_started=BEGAN, step=0, **status)
        rollout = picture.rollout.model_copy(update={"spec": SPEC})
        self.pictures = [picture.model_copy(update={"rollout": rollout, "steps": SPEC.steps()})]

    async def observations(self, name, since, limit):
        self._known(name)
        return [o for o in self.log if since is None or o.t1 >= since][-limit:]

    async def history(self, name, limit):
        self._known(name)
        ended = Release(
            number=2,
            revision=NEW,
            version="1.5.0",
            started=BEGAN,
            ended=NOW,
            outcome=Outcome.PROMOTED,
            reason="all steps passed",
        )
        return [ended][:limit]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("d")
    with serving(Recorded(), data_dir) as operations:
        operations.data_dir = data_dir
        yield operations


@pytest.fixture
def operations(served, monkeypatch):
    served.__init__()
    monkeypatch.setenv("PHOENIX_DATA_DIR", str(served.data_dir))
    return served


@pytest.fixture
def phoenix(operations, capsys):
    def run(*arguments, status=0):
        assert main.run([str(argument) for argument in arguments]) == status
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err
        return shown.err if status else shown.out

    return run


def test_explain_is_a_sentence_numbers_and_a_picture(phoenix):
    shown = phoenix("rollout", "explain", "web")
    assert shown.startswith("Rolled back after 1 min ")
    for word in ("canary ", "stable ", "exposed ", "METRIC", "error rate", "95 % interval", "│", "weight"):
        assert word in shown
    found = json.loads(phoenix("rollout", "explain", "web", "-o", "json"))
    assert found["kind"] == "rollback"
    assert found["blame"] == ["errorRate"]
    assert len(found["picture"]["points"]) == 42
    assert found["metrics"][0]["metric"] == "errorRate"
    assert {"e", "blame", "observed", "lower", "upper", "n", "limit", "stableObserved"} <= set(
        found["metrics"][0]
    )
    assert {"dispersion", "tolerance", "tier"} <= set(found["metrics"][0])
    as_yaml = YAML(typ="safe", pure=True).load(phoenix("rollout", "explain", "web", "--output", "yaml"))
    assert as_yaml["kind"] == "rollback"


@pytest.mark.parametrize("columns", [80, 120])
def test_explain_fits_the_terminal(phoenix, monkeypatch, columns):
    for module in (explaining, output):
        monkeypatch.setattr(module, "width", lambda *_: columns)
    lines = phoenix("rollout", "explain", "web").splitlines()
    assert max(map(len, lines)) <= columns
    assert [line for line in lines if "…" in line] == []
    headers = [line.split() for line in lines if line.startswith("METRIC")]
    assert headers[-1][-5:] == ["BLAME", "N", "INTERVAL", "ALLOWED", "DISPERSION"]
    assert len(headers) == (2 if columns == 80 else 1)


def test_an_earlier_release_is_explained_by_its_number(phoenix, operations):
    operations.show(State.IDLE)
    found = json.loads(phoenix("rollout", "explain", "web", "--release", 2, "-o", "json"))
    assert (found["release"], found["outcome"]) == (2, "promoted")
    said = phoenix("rollout", "explain", "web", "--release", 9, status=2)
    assert "no release 9" in said
    assert "releases that have ended: 2" in said


def test_the_picture_goes_into_a_file(phoenix, tmp_path):
    for name in ("a.png", "a.svg"):
        assert f"the picture is in {tmp_path / name}" in phoenix(
            "rollout", "explain", "web", "--chart", tmp_path / name
        )
        assert (tmp_path / name).stat().st_size > 10_000
    assert "neither .png nor .svg" in phoenix("rollout", "explain", "web", "--chart", "a.gif", status=2)
    assert "cannot be drawn" in phoenix("rollout", "explain", "web", "--metric", "cpu", status=2)


def test_explain_without_observations_tells_what_was_said(phoenix, operations):
    operations.log = []
    assert "all metrics within their limits" in phoenix("rollout", "explain", "web")
    found = json.loads(phoenix("rollout", "explain", "web", "-o", "json"))
    assert (found["kind"], found["picture"]) == ("continue", None)
    assert "no observation of release 3" in phoenix("rollout", "explain", "web", "--chart", "a.png", status=2)


def test_observations_are_listed_and_exported(phoenix, operations):
    shown = phoenix("rollout", "observations", "web").splitlines()
    assert shown[0].split()[:5] == ["TIME", "STEP", "WEIGHT", "CANARY", "FAILED"]
    assert len(shown) == 43
    assert len(json.loads(phoenix("rollout", "observations", "web", "-o", "json"))) == 42
    (record,) = read_jsonl("x", phoenix("rollout", "observations", "web", "-o", "jsonl").splitlines())
    assert record.header.release == 3
    assert record.header.spec == SPEC
    assert list(record.observations) == operations.log[-42:]
    assert list(record.past) == operations.log[:-42]


def test_all_observations_since_a_moment(phoenix, operations):
    found = json.loads(phoenix("rollout", "observations", "web", "--since", "17m", "-o", "json"))
    assert len(found) == 42 + 61
    shown = phoenix("rollout", "observations", "web", "--since", (NOW - timedelta(minutes=8)).isoformat())
    assert len(shown.splitlines()) == 1 + 42 + 7
    assert "exclude each other" in phoenix(
        "rollout", "observations", "web", "--since", "1h", "--release", 1, status=2
    )
    assert "neither a moment" in phoenix("rollout", "observations", "web", "--since", "x", status=2)
    assert any(is_rest(o) for o in operations.log)


def test_an_exported_release_is_replayed_to_the_same_verdict(phoenix, tmp_path):
    path = tmp_path / "web.jsonl"
    path.write_text(phoenix("rollout", "observations", "web", "-o", "jsonl"))
    (found,) = json.loads(phoenix("replay", path, "-o", "json"))
    explained = json.loads(phoenix("rollout", "explain", "web", "-o", "json"))
    assert found["outcome"] == "rolledBack"
    assert (found["after"], found["reason"]) == (explained["after"], explained["reason"])


def test_plan_from_what_a_rollout_has_seen(phoenix, operations):
    found = json.loads(phoenix("plan", "--from", "web", "-o", "json"))
    assert found["rate"] == pytest.approx(20 * 60 / 67 + 50 * 7 / 67, rel=0.5)
    assert found["dispersionKnown"] is True
    assert {item["fit"] for item in found["prospects"] if item["metric"] == "errorRate"} == {"kept"}
    shown = phoenix("plan", "--from", "web", "--rps", "50")
    assert "50 requests/s in all" in shown
    assert "OUTLOOK" in shown


def test_plan_needs_traffic_and_limits(phoenix, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "neither --rps nor --from" in phoenix("plan", status=2)
    assert "phoenix.yaml" in phoenix("plan", "--rps", "5", status=2)
    path = tmp_path / "policy.yaml"
    path.write_text("phases: [{name: a, weight: 5, duration: 10m, limits: {errorRate: 0.1%}}]\n")
    assert "not attainable" in phoenix("plan", "-f", path, "--rps", "50", "--error-rate", "0.4%")
    assert "likely in the extension" in phoenix("plan", "-f", path, "--rps", "20")
    few = phoenix("plan", "-f", path, "--rps", "2")
    assert "too little traffic: a person decides after 30m" in few
    assert "--error-rate: " in phoenix("plan", "-f", path, "--rps", "50", "--error-rate", "x", status=2)


def test_calibrate_tells_false_rollbacks_and_dispersion(phoenix, operations, tmp_path):
    operations.log = operations.made()
    found = json.loads(phoenix("calibrate", "web", "--runs", "5", "-o", "json"))
    assert found["runs"] == 5
    assert found["promoted"] + found["rolledBack"] + found["undecided"] == 5
    assert found["dispersion"] >= 1
    assert found["split"].startswith("requests thinned at random")
    path = tmp_path / "web.jsonl"
    path.write_text(phoenix("rollout", "observations", "web", "-o", "jsonl"))
    shown = phoenix("calibrate", "-f", path, "--runs", "5", "--seed", "2")
    assert "Dispersion (1: requests are independent)" in shown
    assert "slower than 100 ms" in shown
    assert "name a rollout" in phoenix("calibrate", status=2)
    operations.log = operations.log[:3]
    assert "too few" in phoenix("calibrate", "web", status=2)


def test_start_and_apply_can_be_told_to_release_all_the_same(phoenix, operations, tmp_path):
    phoenix("rollout", "start", "web", "--version", "2", "--even-if-unattainable")
    assert operations.calls[-1][2]["even_if_unattainable"] is True
    path = tmp_path / "phoenix.yaml"
    path.write_text('services: {web: {command: [app, "{port}"]}}\nroutes: {web: {service: web}}\n')
    phoenix("apply", "-f", path, "--even-if-unattainable")
    assert operations.calls[-1][-1] == "even if unattainable"
