"""What the store keeps of an observation is all of it."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_orch.health_validator import record
from phoenix_orch.health_validator.observation import Arm, Observation, Quality
from phoenix_orch.health_validator.record import decode, encode

T = datetime(2026, 3, 1, 12, tzinfo=UTC)
COUNTS = st.integers(0, 10**9)
EDGES = st.lists(st.floats(0.001, 60), min_size=0, max_size=20, unique=True).map(sorted)


@st.composite
def arms(draw: st.DrawFn, edges: list[float] | None = None) -> Arm:
    own = draw(EDGES) if edges is None or draw(st.booleans()) else edges
    buckets = [(edge, draw(COUNTS)) for edge in (*own, math.inf)]
    waited = [(edge, draw(COUNTS)) for edge in (*draw(st.sampled_from((own, edges or own))), math.inf)]
    return Arm(
        revision=draw(st.text("0123456789abcdef", min_size=10, max_size=10)),
        requests=draw(COUNTS),
        errors=draw(COUNTS),
        abandoned=draw(COUNTS),
        buckets=tuple(buckets) if draw(st.booleans()) else (),
        waited=tuple(waited) if draw(st.booleans()) else (),
        business=draw(st.dictionaries(st.text(max_size=5), COUNTS, max_size=3)),
        cpu=draw(st.none() | st.floats(0, 1)),
        memory=draw(st.none() | COUNTS),
        values=draw(st.dictionaries(st.text(max_size=5), st.floats(-1e9, 1e9), max_size=3)),
        restarts=draw(st.integers(0, 9)),
        processes=draw(st.integers(0, 9)),
        quality=draw(st.sampled_from(Quality)),
        unserved=draw(st.just(0.0) | st.floats(0, 1e6)),
    )


@st.composite
def observations(draw: st.DrawFn) -> Observation:
    edges = draw(EDGES)
    canary = draw(arms(edges))
    t1 = T + timedelta(microseconds=draw(st.integers(0, 10**15)))
    return Observation(
        t0=t1 - timedelta(microseconds=draw(st.integers(0, 10**10))),
        t1=t1,
        revision=canary.revision,
        step=draw(st.integers(0, 20)),
        weight_applied=draw(st.integers(0, 100)),
        canary=canary,
        stable=draw(st.none() | arms(edges)),
        notes=tuple(draw(st.lists(st.text(max_size=8), max_size=2))),
    )


@given(observations())
def test_nothing_is_lost(observation: Observation) -> None:
    assert decode(encode(observation)) == observation


def test_every_field_of_an_arm_is_written() -> None:
    assert set(record.SCALARS.values()) | {"revision", "buckets", "waited", "quality"} == set(
        Arm.model_fields
    )


def test_lines_from_before_it_was_counted_who_gave_up_say_nobody_did() -> None:
    line = '{"v":1,"t":[1767268800000000,10000000],"r":"2","s":0,"w":5,"c":{"n":50,"x":1}}'
    found = decode(line).canary
    assert (found.requests, found.errors, found.abandoned, found.waited) == (50, 1, 0, ())


@given(observations())
def test_lines_of_the_first_release_are_read(observation: Observation) -> None:
    assert decode(observation.model_dump_json()) == observation


def test_the_line_is_half_as_long() -> None:
    edges = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.5, 0.75, 1, 1.5, 2.5, 5, 10)
    buckets = tuple((edge, 100) for edge in (*edges, math.inf))
    one = Arm(revision="2222222222", requests=1800, errors=3, buckets=buckets, cpu=0.1234, memory=123456789)
    other = one.model_copy(update={"revision": "1111111111"})
    observation = Observation(
        t0=T, t1=T + timedelta(seconds=10), revision=one.revision, step=1, weight_applied=20, canary=one,
        stable=other,
    )  # fmt: skip
    line = encode(observation)
    assert len(line) <= 450, line
    assert len(line) * 2 < len(observation.model_dump_json()) * 1.1


@pytest.mark.parametrize(
    "line", ["", "{", "[]", "1", '{"v":1}', '{"v":2}', '{"v":1,"t":[1],"r":"a","s":0,"w":0,"c":{}}']
)
def test_what_is_no_observation_is_refused(line: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the message is the parser's own
        decode(line)
