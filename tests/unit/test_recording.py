"""Recordings in files: what is read, and where it says that something is wrong."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from tests.unit import recorded

from phoenix_orch.health_validator import placing
from phoenix_orch.health_validator.csv_recording import read_csv
from phoenix_orch.health_validator.prometheus_recording import Answers, Series, recording
from phoenix_orch.health_validator.recording import Header, lines, read_jsonl, weights
from phoenix_orch.health_validator.resting import past
from phoenix_orch.kernel.config import ConfigError
from phoenix_orch.kernel.errors import Invalid

CSV = """\
time,weight,canary_requests,canary_errors,canary_le_0.1,stable_requests,stable_errors,stable_le_0.1
2026-03-01T12:00:10Z,5,25,0,24,475,1,460
2026-03-01T12:00:20Z,5,20,2,20,480,0,470
2026-03-01T12:00:30Z,20,100,0,100,400,0,400
"""


def test_json_lines_give_back_what_was_written():
    record = recorded.release(failing=0.01)
    (found,) = read_jsonl("web#3", lines(record))
    assert found == record


def test_what_stable_did_before_goes_with_the_release():
    earlier = recorded.release(began=recorded.BEGAN - timedelta(hours=1), revision="0000000000")
    record = replace(recorded.release(), past=past(earlier.observations))
    (found,) = read_jsonl("web#3", lines(record))
    assert found == record
    assert {o.revision for o in found.past} == {""}
    assert [o.stable for o in found.past] == [o.stable for o in earlier.observations]


def test_json_lines_need_no_header():
    record = recorded.release()
    (found,) = read_jsonl("file", list(lines(record))[1:])
    assert found.header == Header()
    assert found.observations == record.observations
    assert weights(found) == (10, 50)


def test_a_file_with_several_releases_gives_each_of_them():
    first = recorded.release()
    again = recorded.release(began=recorded.BEGAN + timedelta(hours=1))
    other = recorded.release(began=recorded.BEGAN + timedelta(hours=2), revision="3333333333")
    everything = (*first.observations, *again.observations, *other.observations)
    found = read_jsonl("file", lines(replace(first, observations=everything)))
    assert [one.observations for one in found] == [r.observations for r in (first, again, other)]
    assert [one.header.spec for one in found] == [recorded.SPEC] * 3
    assert {one.header.release for one in found} == {0}


@pytest.mark.parametrize(
    ("line", "column", "said"),
    [
        ('{"t0": 1, ', 11, "not JSON"),
        ('{"format": "phoenix-observations/9"}', 2, "phoenix-observations/1"),
        ('{"t0":"2026-03-01T12:00:00Z","t1":"soon"}', 30, "t1"),
        ("[]", 1, "dictionary"),
    ],
)
def test_a_bad_line_is_named_with_its_column(line, column, said):
    with pytest.raises(ConfigError) as raised:
        read_jsonl("file.jsonl", [line])
    assert f"file.jsonl:1:{column}: " in str(raised.value)
    assert said in str(raised.value)
    assert "jsonl" in raised.value.remedy


@pytest.mark.parametrize(
    "line",
    [
        '{"password": "s3cr3tCanary"}',
        '{"password": "s3cr3tCanary"',
        '{"format": "phoenix-observations/1", "note": "s3cr3tCanary"}',
        '["s3cr3tCanary"]',
        "PASSWORD=s3cr3tCanary",
        "time,canary_requests,canary_errors,PASSWORD=s3cr3tCanary",
        "time,canary_requests,canary_errors\nPASSWORD=s3cr3tCanary",
    ],
)
def test_nothing_is_quoted_of_a_file_that_is_no_recording(line):
    read = read_jsonl if line[0] in "{[" else read_csv
    with pytest.raises(ConfigError) as raised:
        read("file", line.splitlines())
    assert "s3cr3tCanary" not in str(raised.value)


def test_a_file_is_read_no_further_than_a_hundred_errors():
    endless = itertools.repeat("{}")
    with pytest.raises(ConfigError) as raised:
        read_jsonl("file", endless)
    assert "errors" in str(raised.value)
    with pytest.raises(ConfigError):
        read_csv("file", itertools.chain(["time,canary_requests,canary_errors"], itertools.repeat("1")))


@pytest.mark.parametrize("text", ["", "\n\n", '{"format": "phoenix-observations/1"}'])
def test_a_file_without_observations_is_refused(text):
    with pytest.raises(ConfigError, match="no observation"):
        read_jsonl("file", text.splitlines())


def test_a_csv_is_read():
    (found,) = read_csv("file.csv", CSV.splitlines())
    first, second, third = found.observations
    assert (first.t0, first.t1) == (
        datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC),
        datetime(2026, 3, 1, 12, 0, 10, tzinfo=UTC),
    )
    assert first.canary.buckets == ((0.1, 24), (math.inf, 1))
    assert (second.canary.requests, second.canary.errors) == (20, 2)
    assert second.stable is not None
    assert second.stable.requests == 480
    assert [(o.step, o.weight_applied) for o in found.observations] == [(0, 5), (0, 5), (1, 20)]
    assert third.t0 == second.t1


def test_a_csv_may_count_time_in_seconds_and_tell_lengths():
    (found,) = read_csv(
        "f", ["time,seconds,canary_requests,canary_errors", "1767268800,5,10,1", "1767268860.5,,10,1"]
    )
    assert [o.seconds for o in found.observations] == [5, 60.5]
    assert found.observations[0].stable is None


def test_a_csv_may_tell_of_requests_given_up_on():
    head = (
        "time,canary_requests,canary_errors,stable_requests,stable_errors,canary_abandoned,stable_abandoned"
    )
    (found,) = read_csv("f", [f"{head}\n", "10,5,1,20,0,7,2\n", "20,5,0,20,0,,\n"])
    assert [(o.canary.requests, o.canary.abandoned) for o in found.observations] == [(5, 7), (5, 0)]
    assert [o.stable.abandoned for o in found.observations if o.stable] == [2, 0]


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("", "f", "empty"),
        ("time,canary_requests\n", "f:1:1: canary_errors", "missing"),
        ("time,canary_requests,canary_errors,what\n", "f:1:36: what", "means nothing"),
        ("time,time,canary_requests,canary_errors\n", "f:1:6: time", "second time"),
        ("time,canary_requests,canary_errors,step\n", "f:1:1: weight", "has to tell the weight"),
        ("time,canary_requests,canary_errors\n", "f", "no row"),
        ("time,canary_requests,canary_errors\n1,2\n", "f:2:1", "2 cells in a row, 3 columns"),
        ("time,canary_requests,canary_errors\nsoon,2,0\n", "f:2:1: time", "neither a moment"),
        ("time,canary_requests,canary_errors\n10,-2,0\n", "f:2:4: canary_requests", "0 or more"),
        ("time,canary_requests,canary_errors\n10,2.5,0\n", "f:2:4: canary_requests", "not rates"),
        ("time,canary_requests,canary_errors\n10,2,3\n", "f:2:6: canary_errors", "more than the 2"),
        ("time,canary_requests,canary_errors\n10,2,0\n10,2,0\n", "f:3:1: time", "is not after"),
        ("time,canary_requests,canary_errors\n10,nan,0\n", "f:2:4: canary_requests", "0 or more"),
        ("time,canary_requests,canary_errors,canary_le_x\n", "f:1:36: canary_le_x", "means nothing"),
    ],
)
def test_what_is_wrong_in_a_csv_is_named_with_line_and_column(text, place, said):
    with pytest.raises(ConfigError) as raised:
        read_csv("f", text.splitlines())
    assert f"\n{place}: " in str(raised.value)
    assert said in str(raised.value)
    assert "canary_le_SECONDS" in raised.value.remedy


def test_the_walk_is_found_from_requests_that_arrived_though_nobody_was_answered():
    def hung(observation):
        canary = observation.canary
        left = canary.model_copy(update={"requests": 0, "errors": 0, "abandoned": canary.requests})
        return observation.model_copy(update={"step": 0, "weight_applied": 0, "canary": left})

    blind = replace(
        recorded.changed(recorded.release(walk=((10, timedelta(minutes=5)),)), hung), placed=False
    )
    assert {o.weight_applied for o in placing.placed(blind, [10, 50]).observations} == {10}


def test_series_of_clients_that_gave_up_are_no_answers_whatever_the_query_selects():
    grid = (0.0, 10.0)

    def series(value, **labels):
        return Series(labels, {0.0: 0, 10.0: value})

    found = recording(
        "url",
        grid,
        Answers(
            requests=(series(20, code="200"), series(5, code="499"), series(1, status="0")),
            errors=(series(2, code="500"), series(5, code="499")),
            buckets=(series(20, code="200", le="+Inf"), series(5, code="499", le="0.1")),
        ),
        None,
    )
    assert found is not None
    (seen,) = found.observations
    assert (seen.canary.requests, seen.canary.errors, seen.canary.abandoned) == (20, 2, 6)
    assert seen.canary.buckets == ((math.inf, 20),)
    assert seen.canary.waited == ((0.1, 5), (math.inf, 0))


def test_the_walk_is_found_from_the_shares_of_requests():
    record = recorded.release(rps=30, walk=((5, timedelta(minutes=10)), (20, timedelta(minutes=5))))
    blind = replace(
        recorded.changed(record, lambda o: o.model_copy(update={"step": 0, "weight_applied": 0})),
        placed=False,
    )
    found = placing.placed(blind, [5, 20, 40])
    known = [o.step for o in record.observations]
    wrong = sum(o.step != step for o, step in zip(found.observations, known, strict=True))
    assert wrong <= 2, wrong
    assert {o.weight_applied for o in found.observations} == {5, 20}


def test_what_was_recorded_before_and_after_the_release_is_left_out():
    record = recorded.release(
        walk=((0, timedelta(minutes=5)), (10, timedelta(minutes=5)), (0, timedelta(minutes=5)))
    )
    found = placing.placed(replace(record, placed=False), [10, 50])
    assert len(found.observations) == 30
    assert {o.weight_applied for o in found.observations} == {10}


def test_without_stable_and_weight_nothing_can_be_placed():
    (record,) = read_csv("f", ["time,canary_requests,canary_errors", "10,5,0", "20,5,0"])
    with pytest.raises(Invalid, match="weight cannot be told"):
        placing.placed(record, [5])


def test_counters_of_prometheus_are_counted_series_by_series():
    grid = (0.0, 10.0, 20.0, 30.0)

    def series(*values: float | None, **labels: str) -> Series:
        return Series(labels, {m: v for m, v in zip(grid, values, strict=True) if v is not None})

    canary = Answers(
        requests=(series(0, 10, 3, 8, pod="a"), series(None, 100, 105, None, pod="b")),
        errors=(series(0, 1, 0, 2, pod="a"),),
        buckets=(series(0, 9, 2, 6, le="0.1"), series(0, 10, 3, 8, le="+Inf")),
    )
    found = recording("url", grid, canary, Answers(requests=(series(7, None, 27, 27),)))
    assert found is not None
    assert [o.canary.requests for o in found.observations] == [10, 3 + 5, 5]
    assert [o.canary.errors for o in found.observations] == [1, 0, 2]
    assert [o.canary.buckets for o in found.observations] == [
        ((0.1, 9), (math.inf, 1)),
        ((0.1, 2), (math.inf, 1)),
        ((0.1, 4), (math.inf, 1)),
    ]
    assert [(o.stable.requests, o.stable.quality.value) for o in found.observations if o.stable] == [
        (0, "gap"),
        (20, "ok"),
        (0, "ok"),
    ]
    assert recording("url", grid, Answers(requests=()), None) is None
