"""The ground floor: units, ids, clocks, errors."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from phoenix_orch.kernel import errors
from phoenix_orch.kernel.clock import Clock, ManualClock, RealClock, ScaledClock
from phoenix_orch.kernel.ids import revision_hash, sortable_id
from phoenix_orch.kernel.units import (
    Duration,
    Ratio,
    Size,
    format_duration,
    format_ratio,
    format_size,
    parse_duration,
    parse_ratio,
    parse_size,
)

SECOND = timedelta(seconds=1)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


# -- units -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0),
        ("100ms", 0.1),
        ("90s", 90),
        ("1.5m", 90),
        ("10m", 600),
        ("1h30m", 5400),
        ("2d", 172800),
        ("1d1h1.5m1s1ms", 90091.001),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "10",
            "m",
            "-5s",
            "5 s",
            "5S",
            "1h-5m",
            "1e3s",
            "soon",
            10,
            1.5,
            None,
            True,
            "0.0001s",
            "4000d",
        ),
        *(" 5s", "5s\n", "1m1h", "1m1m", "0.0001m", "1.0ms", "٣s"),
    ],
)
def test_no_durations(text: object) -> None:
    with pytest.raises(ValueError, match=r"not a duration|longer than|finer than"):
        parse_duration(text)


def test_a_negative_timedelta_is_no_duration() -> None:
    with pytest.raises(ValueError, match="negative"):
        parse_duration(-SECOND)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (0.1, "100ms"), (90, "1m30s"), (3600, "1h"), (90061.001, "1d1h1m1s1ms")]
)
def test_durations_as_people_write_them(seconds: float, text: str) -> None:
    assert format_duration(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(("text", "value"), [("0.1%", 0.001), ("5%", 0.05), ("100 %", 1.0), ("00.0%", 0.0)])
def test_shares(text: str, value: float) -> None:
    assert parse_ratio(text) == value


@pytest.mark.parametrize(
    "text", ["0.1", "101%", "100.1%", "-1%", "%", "", 0.1, 5, None, "1e1%", " 5%", "5%\n"]
)
def test_no_shares(text: object) -> None:
    with pytest.raises(ValueError, match=r"not a share|above 100%"):
        parse_ratio(text)


@pytest.mark.parametrize(("value", "text"), [(0.001, "0.1%"), (1.0, "100%"), (0.0, "0%"), (0.05, "5%")])
def test_shares_as_people_write_them(value: float, text: str) -> None:
    assert format_ratio(value) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("512Mi", 512 * 1024**2),
        ("1Gi", 1024**3),
        ("100M", 10**8),
        ("4096", 4096),
        (4096, 4096),
        ("1.5k", 1500),
        (0, 0),
    ],
)
def test_sizes(text: object, value: int) -> None:
    assert parse_size(text) == value


@pytest.mark.parametrize("text", ["", "Mi", "-1", -1, True, None, 1.5, "1KB", "1 Mi", "1mi", " 1"])
def test_no_sizes(text: object) -> None:
    with pytest.raises(ValueError, match="not a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (1024, "1Ki"), (1536, "1536"), (1024**4, "1Ti"), (10**6, "1000000")]
)
def test_sizes_as_people_write_them(value: int, text: str) -> None:
    assert format_size(value) == text


class Quantities(BaseModel):
    duration: Duration = SECOND
    ratio: Ratio = 0.5
    size: Size = 1024


def test_units_in_a_model_speak_like_people_in_json_and_in_errors() -> None:
    found = Quantities.model_validate({"duration": "2m", "ratio": "1%", "size": "1Mi"})
    assert found.model_dump_json() == '{"duration":"2m","ratio":"1%","size":"1Mi"}'
    assert Quantities.model_validate_json(found.model_dump_json()) == found
    with pytest.raises(ValidationError, match="write a number and a unit"):
        Quantities.model_validate({"duration": "long"})


@pytest.mark.parametrize("name", ["duration", "ratio", "size"])
def test_the_schema_for_editors_describes_the_text(name: str) -> None:
    schema: dict[str, Any] = Quantities.model_json_schema()["properties"][name]
    assert "examples" in schema


# -- ids -------------------------------------------------------------------------------------------


def test_a_revision_depends_on_content_only() -> None:
    assert revision_hash({"a": 1, "b": [1, 2]}) == revision_hash({"b": [1, 2], "a": 1})
    assert revision_hash({"a": 1}) != revision_hash({"a": "1"})
    assert revision_hash({}) == "44136fa355"  # SHA-256 of `{}`: the same on every machine
    assert revision_hash({"ü": "é"}).isascii()


def test_ids_sort_by_time_and_do_not_repeat() -> None:
    later = NOON + timedelta(milliseconds=1)
    ids = {sortable_id(NOON) for _ in range(1000)}
    assert len(ids) == 1000
    assert {len(name) for name in ids} == {16}
    assert max(ids) < min(sortable_id(later) for _ in range(100))


# -- clocks ----------------------------------------------------------------------------------------


def test_the_real_clock_is_aware_and_never_goes_back() -> None:
    clock = RealClock()
    moments = [clock.now() for _ in range(100)]
    assert moments == sorted(moments)
    assert moments[0].tzinfo is UTC
    assert abs(moments[0] - datetime.now(UTC)) < 5 * SECOND
    assert (clock.real(SECOND), clock.wall(NOON)) == (SECOND, NOON)


def test_the_scaled_clock_runs_faster_from_its_epoch() -> None:
    epoch = datetime.now(UTC) - timedelta(minutes=1)
    clock = ScaledClock(60, epoch)
    passed = clock.now() - epoch
    assert timedelta(hours=1) <= passed < timedelta(hours=2)
    assert clock.real(timedelta(minutes=1)) == SECOND
    assert clock.wall(epoch + timedelta(hours=1)) == epoch + timedelta(minutes=1)


def test_two_scaled_clocks_of_one_epoch_agree() -> None:
    epoch = datetime.now(UTC)
    first, second = ScaledClock(100, epoch), ScaledClock(100, epoch)
    assert abs(first.now() - second.now()) < timedelta(minutes=2)


@pytest.mark.parametrize("speed", [0, -1])
def test_a_clock_needs_a_speed(speed: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        ScaledClock(speed, NOON)


def test_the_manual_clock_moves_when_told() -> None:
    clock = ManualClock(NOON)
    assert clock.now() == clock.now() == NOON
    clock.advance(SECOND)
    assert clock.now() == NOON + SECOND
    asyncio.run(clock.sleep(timedelta(hours=1)))
    assert clock.now() == NOON + SECOND + timedelta(hours=1)
    assert (clock.real(SECOND), clock.wall(NOON)) == (timedelta(0), NOON)


@pytest.mark.parametrize("clock", [RealClock(), ScaledClock(1000, NOON)])
def test_sleeping_takes_the_real_share_of_the_time(clock: Clock) -> None:
    wanted = timedelta(milliseconds=20) if isinstance(clock, RealClock) else timedelta(seconds=20)
    before = clock.now()
    asyncio.run(clock.sleep(wanted))
    assert clock.now() - before >= wanted * 0.9
    asyncio.run(clock.sleep(-wanted))  # what has passed already takes no time


# -- errors ----------------------------------------------------------------------------------------


def kinds(root: type[errors.PhoenixError]) -> list[type[errors.PhoenixError]]:
    return [
        root,
        *(
            kind
            for child in root.__subclasses__()
            if child.__module__ == errors.__name__
            for kind in kinds(child)
        ),
    ]


def test_an_error_says_what_and_what_to_do() -> None:
    error = errors.NotFound("no rollout 'shop'", remedy="phoenix get rollouts lists them")
    assert str(error) == "no rollout 'shop' (phoenix get rollouts lists them)"
    assert (error.message, error.remedy) == ("no rollout 'shop'", "phoenix get rollouts lists them")
    assert str(errors.Conflict("somebody wrote first")) == "somebody wrote first"


def test_every_error_has_a_code_of_its_own_and_a_documented_exit() -> None:
    codes = {kind: kind.code for kind in kinds(errors.PhoenixError)}
    assert len(set(codes.values())) == len(codes)
    assert {kind.__name__: kind.exit_code for kind in codes} == {
        "PhoenixError": 1,
        "Invalid": 2,
        "NotFound": 2,
        "BadState": 2,
        "Unauthenticated": 2,
        "Forbidden": 2,
        "Conflict": 1,
        "Outdated": 1,
        "Latched": 2,
        "Retryable": 1,
        "Unavailable": 3,
        "TooMany": 1,
        "Terminal": 1,
    }
