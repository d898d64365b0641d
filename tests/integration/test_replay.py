"""`phoenix replay` on files and on a Prometheus."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from tests.integration.fake_prometheus import FakePrometheus, serving
from tests.unit import recorded

from phoenix_orch.cli import main
from phoenix_orch.health_validator.recording import Recording, lines
from phoenix_orch.health_validator.sources import prometheus_range

POLICY = """\
phases:
  - {name: initial, weight: 10, duration: 3m, limits: {errorRate: 50%}}
  - {name: full, weight: 50, duration: 3m, limits: {errorRate: 50%}}
policy: {gate: literal}
"""
FILE = """\
services: {web: {version: "1", command: [app, "{port}"]}, api: {version: "1", command: [app, "{port}"]}}
routes: {web: {service: web, pathPrefix: /web}, api: {service: api}}
rollouts:
  api: {phases: [{name: all, weight: 100, duration: 1m, limits: {errorRate: 90%}}], policy: {gate: literal}}
"""
QUERIES = (
    "--canary-query", "canary", "--canary-errors", "canary_bad", "--canary-latency", "canary_le",
    "--stable-query", "stable",
)  # fmt: skip


@pytest.fixture
def phoenix(capsys):
    def run(*arguments: object, status: int = 0) -> str:
        assert main.run([str(argument) for argument in arguments]) == status
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err
        return shown.err if status else shown.out

    return run


@pytest.fixture
def bad(tmp_path):
    return written(tmp_path / "bad.jsonl", recorded.release(failing=0.2, fails_from=timedelta(minutes=1)))


def written(path, record: Recording):
    path.write_text("\n".join(lines(record)) + "\n")
    return path


def test_two_policies_stand_side_by_side(phoenix, tmp_path, bad):
    policy = tmp_path / "lax.yaml"
    policy.write_text(POLICY)
    found = json.loads(phoenix("replay", bad, "--policy", "literal", "--against", policy, "-o", "json"))
    assert [one["policy"] for one in found] == ["literal", str(policy)]
    assert [one["outcome"] for one in found] == ["rolledBack", "promoted"]
    assert found[0]["blame"] == ["errorRate"]
    assert found[0]["requests"] < found[1]["requests"]
    shown = phoenix("replay", bad, "--policy", "literal", "--against", policy)
    assert "The walk is the record's" in shown
    assert "literal, step by step" in shown
    assert "rolledBack" in shown


def test_several_files_are_a_row_each(phoenix, tmp_path, bad):
    good = written(tmp_path / "good.jsonl", recorded.release())
    found = json.loads(phoenix("replay", bad, good, "--policy", "literal", "-o", "json"))
    assert [(one["source"], one["outcome"]) for one in found] == [
        (str(bad), "rolledBack"),
        (str(good), "promoted"),
    ]


def test_a_recording_is_drawn(phoenix, tmp_path, bad):
    picture = tmp_path / "a.svg"
    phoenix("replay", bad, "--chart", picture)
    assert picture.read_text().startswith("<?xml")
    assert "do not fit" in phoenix("replay", bad, bad, "--chart", picture, status=2)
    assert "neither" in phoenix("replay", bad, "--chart", tmp_path / "a.txt", status=2)


def test_a_rollout_of_a_configuration_is_a_policy(phoenix, tmp_path, bad):
    file = tmp_path / "phoenix.yaml"
    file.write_text(FILE)
    assert "no rollout" not in phoenix("replay", bad, "--policy", file)
    (found,) = json.loads(phoenix("replay", bad, "--policy", f"{file}#api", "-o", "json"))
    assert found["outcome"] == "promoted"
    said = phoenix("replay", bad, "--policy", f"{file}#other", status=2)
    assert f"{file}#api" in said
    assert f"{file}#web" in said


def test_a_policy_with_a_fault_is_named_with_its_line(phoenix, tmp_path, bad):
    policy = tmp_path / "policy.yaml"
    policy.write_text("phases:\n  - {name: initial, weight: 10, duration: 3m, limits: {errorRat: 1%}}\n")
    said = phoenix("replay", bad, "--policy", policy, status=2)
    assert f"{policy}:2:" in said
    assert "errorRate" in said


def test_a_csv_without_weights_finds_its_walk(phoenix, tmp_path):
    path = tmp_path / "counts.csv"
    rows = ["time,canary_requests,canary_errors,stable_requests,stable_errors"]
    for o in recorded.release().observations:
        assert o.stable is not None
        rows.append(
            f"{o.t1.timestamp()},{o.canary.requests},{o.canary.errors},{o.stable.requests},{o.stable.errors}"
        )
    path.write_text("\n".join(rows))
    policy = tmp_path / "lax.yaml"
    policy.write_text(POLICY)
    (found,) = json.loads(phoenix("replay", path, "--policy", policy, "-o", "json"))
    assert found["outcome"] == "promoted"
    assert [step["weight"] for step in found["steps"]] == [10, 50]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "nothing to replay"),
        (("missing.jsonl",), "there is no file missing.jsonl"),
        (("--canary-query", "x"), "needs --prometheus"),
        (("--prometheus", "http://127.0.0.1:9"), "needs --canary-query"),
        (("--prometheus", "http://127.0.0.1:9", "--canary-query", "x", "--step", "x"), "--step"),
        (("--prometheus", "http://127.0.0.1:9", "--canary-query", "x", "--start", "x"), "neither a moment"),
    ],
)
def test_what_is_missing_is_said(phoenix, arguments, said):
    assert said in phoenix("replay", *arguments, status=2)


def test_bytes_that_are_no_text_are_refused(phoenix, tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"{\xff\xfe")
    assert "is not UTF-8" in phoenix("replay", path, status=2)


# -- Prometheus --------------------------------------------------------------------------------------


@pytest.fixture
def prometheus():
    """The counters that a Prometheus would have scraped of a release whose canary goes bad."""
    record = recorded.release(failing=0.2, fails_from=timedelta(minutes=5))
    begin = recorded.BEGAN.timestamp()

    def counter(of) -> list[tuple[float, float]]:
        total, samples = 7.0, [(begin, 7.0)]
        for o in record.observations:
            total += of(o)
            samples.append((o.t1.timestamp(), total))
        return samples

    fake = FakePrometheus(
        {
            "canary": [({"pod": "a"}, counter(lambda o: o.canary.requests))],
            "canary_bad": [({"pod": "a"}, counter(lambda o: o.canary.errors))],
            "canary_le": [
                (
                    {"pod": "a", "le": "+Inf" if edge == float("inf") else str(edge)},
                    counter(lambda o, edge=edge: sum(n for upper, n in o.canary.buckets if upper <= edge)),
                )
                for edge in recorded.EDGES
            ],
            "stable": [({"pod": "b"}, counter(lambda o: o.stable.requests))],
        }
    )
    with serving(fake) as served:
        served.span = ("--start", recorded.BEGAN.isoformat(), "--end", record.observations[-1].t1.isoformat())
        yield served


def test_a_range_of_prometheus_is_replayed(phoenix, tmp_path, prometheus):
    policy = tmp_path / "strict.yaml"
    policy.write_text(POLICY.replace("50%", "1%"))
    arguments = ("replay", "--prometheus", prometheus.url, *QUERIES, *prometheus.span, "--policy", policy)
    (found,) = json.loads(phoenix(*arguments, "-o", "json"))
    assert found["outcome"] == "rolledBack"
    assert found["source"] == prometheus.url
    record = recorded.release(failing=0.2, fails_from=timedelta(minutes=5))
    moment = recorded.BEGAN + timedelta(seconds=int(found["after"].removesuffix("s").split("m")[0]) * 60)
    assert moment >= recorded.BEGAN + timedelta(minutes=5)
    assert found["requests"] <= sum(o.canary.requests for o in record.observations)


def test_a_long_range_is_asked_in_pieces(phoenix, prometheus, monkeypatch):
    monkeypatch.setattr(prometheus_range, "POINTS", 10)
    found = prometheus_range.fetch(
        prometheus.url,
        prometheus_range.Queries("canary"),
        prometheus_range.Queries("stable"),
        start=recorded.BEGAN,
        end=recorded.BEGAN + timedelta(minutes=7),
        step=timedelta(seconds=10),
    )
    record = recorded.release(failing=0.2, fails_from=timedelta(minutes=5))
    assert len(prometheus.asked) == 2 * 5
    assert [o.canary.requests for o in found.observations] == [o.canary.requests for o in record.observations]
    assert [o.t1 for o in found.observations] == [o.t1 for o in record.observations]


def test_what_prometheus_refuses_is_told(phoenix, prometheus):
    arguments = ("replay", "--prometheus", prometheus.url, *prometheus.span)
    said = phoenix(*arguments, "--canary-query", "sum(", status=2)
    assert "parse error" in said
    assert "has no two values" in phoenix(
        "replay", "--prometheus", prometheus.url, "--canary-query", "canary", "--start", "1h", status=2
    )
    said = phoenix("replay", "--prometheus", prometheus.url + "/x", "--canary-query", "canary", status=2)
    assert "not of Prometheus" in said


def test_both_policies_see_the_same_walk(phoenix, tmp_path, prometheus):
    policy = tmp_path / "lax.yaml"
    policy.write_text(POLICY.replace("literal", "statistical"))
    arguments = ("replay", "--prometheus", prometheus.url, *QUERIES, *prometheus.span, "-o", "json")
    for chosen in (
        ("--policy", policy, "--against", "literal"),
        ("--policy", "literal", "--against", policy),
    ):
        found = json.loads(phoenix(*arguments, *chosen))
        assert {one["gate"] for one in found} == {"statistical", "literal"}
        assert [[step["weight"] for step in one["steps"]] for one in found] == [[10, 50], [10, 50]]


def test_a_token_comes_from_the_environment(phoenix, tmp_path, prometheus, monkeypatch):
    prometheus.token = "s3cret"
    arguments = ("replay", "--prometheus", prometheus.url, *QUERIES, *prometheus.span)
    assert "no token" in phoenix(*arguments, status=2)
    monkeypatch.setenv(prometheus_range.TOKEN_VARIABLE, "s3cret")
    assert "s3cret" not in phoenix(*arguments)


def test_a_prometheus_that_is_away_is_said_to_be(phoenix):
    said = phoenix("replay", "--prometheus", "http://127.0.0.1:9", "--canary-query", "x", status=1)
    assert "does not answer" in said
