"""Freeze windows: when they are open, whom they are about, and what they hold."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError
from tests.unit.rollout_setting import (
    LAST,
    MINUTE,
    NEW,
    NEXT,
    OLD,
    SECOND,
    T0,
    command,
    reasons,
    status_in,
    turn,
    verdict,
)

from phoenix_orch.health_validator.observation import VerdictKind
from phoenix_orch.kernel.errors import BadState, NotFound
from phoenix_orch.rollout.freezes import Freeze, Window, frozen, obstacle, paused
from phoenix_orch.rollout.freezes_by_hand import (
    Override,
    Said,
    StartedFreeze,
    ended,
    overridden,
    started,
    thawed,
)
from phoenix_orch.rollout.status import CommandKind, Obstacle, State

HOUR = timedelta(hours=1)
HELD = Obstacle(reason="Frozen", message="frozen by peak")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def freeze(**fields: Any) -> Freeze:
    return Freeze.model_validate({"name": "peak", **fields})


def test_a_window_of_dates_is_open_from_its_begin_until_just_before_its_end() -> None:
    one = freeze(**{"from": "2026-12-20", "until": "2027-01-06", "zone": "Europe/Vienna"})
    assert one.window(at("2026-12-19T22:59:59")) is None
    open_window = Window(at("2026-12-19T23:00"), at("2027-01-05T23:00"))
    assert one.following(at("2026-12-01")) == open_window
    assert one.window(at("2026-12-19T23:00")) == open_window
    assert one.window(at("2027-01-05T22:59:59")) == open_window
    assert one.window(at("2027-01-05T23:00")) is None
    assert one.following(at("2027-01-05T23:00")) is None


def test_a_window_without_dates_is_open_for_ever() -> None:
    assert freeze().window(T0) == Window(None, None)


@pytest.mark.parametrize(
    ("moment", "is_open"),
    [
        ("2026-11-27T15:59:59", False),
        ("2026-11-27T16:00:00", True),
        ("2026-11-27T16:00:00.000001", True),
        ("2026-11-30T07:59:59", True),
        ("2026-11-30T08:00:00", False),
    ],
)
def test_a_window_by_cron_lasts_as_long_as_it_says(moment: str, is_open: bool) -> None:
    weekend = freeze(cron="0 16 * * FRI", duration="64h")
    found = weekend.window(at(moment))
    assert (found is not None) is is_open
    if found is not None:
        assert found == Window(at("2026-11-27T16:00"), at("2026-11-30T08:00"))


def test_a_window_by_cron_follows_the_clock_of_its_zone_over_the_end_of_summer_time() -> None:
    daily = freeze(cron="0 8 * * *", duration="2h", zone="Europe/Vienna")
    assert daily.window(at("2026-10-24T06:30")) == Window(at("2026-10-24T06:00"), at("2026-10-24T08:00"))
    assert daily.window(at("2026-10-25T06:30")) is None  # it is half past seven there now
    assert daily.window(at("2026-10-25T07:30")) == Window(at("2026-10-25T07:00"), at("2026-10-25T09:00"))


def test_windows_that_touch_are_one_and_those_without_a_gap_have_no_end() -> None:
    twice = freeze(cron="0 8,10 * * *", duration="2h")
    assert twice.window(at("2026-11-27T08:30")) == Window(at("2026-11-27T08:00"), at("2026-11-27T12:00"))
    always = freeze(cron="0 * * * *", duration="90m")
    found = always.window(at("2026-11-27T08:30"))
    assert found is not None
    assert found.until is None


def test_of_several_freezes_the_one_that_ends_last_counts_for_those_it_is_about() -> None:
    short = freeze(name="short", until="2026-01-02")
    long = freeze(name="long", until="2026-01-05", rollouts=["shop-*"])
    endless = freeze(name="endless", rollouts=["bank"])
    every = [short, long, endless]

    def name(rollout: str) -> str | None:
        found = frozen(every, rollout, T0)
        return found.freeze.name if found is not None else None

    assert (name("web"), name("shop-web"), name("bank")) == ("short", "long", "endless")
    assert frozen(every, "web", at("2026-01-02")) is None
    assert paused(every, "web", T0) is None
    strict = freeze(name="strict", releasesUnderWay="pause")
    assert paused([*every, strict], "web", T0) is not None


@pytest.mark.parametrize(
    "fields",
    [
        {"cron": "0 16 * * FRI"},
        {"duration": "1h"},
        {"cron": "0 16 * * FRI", "duration": "1h", "until": "2026-01-01"},
        {"cron": "0 16 31 2 *", "duration": "1h"},
        {"cron": "nightly", "duration": "1h"},
        {"cron": "0 16 * * FRI", "duration": "0s"},
        {"from": "2026-01-02", "until": "2026-01-02"},
        {"from": "tomorrow"},
        {"zone": "Mars/Olympus"},
        {"zone": "../../etc/passwd"},
        {"rollouts": []},
    ],
)
def test_what_is_no_window_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        freeze(**fields)


def test_who_waits_is_told_for_how_long_why_and_what_to_do() -> None:
    found = frozen([freeze(until="2026-01-02", reason="stocktaking")], "web", T0)
    assert found is not None
    told = obstacle(found, "web")
    assert told.reason == "Frozen"
    for part in ("peak", "2026-01-02T00:00:00Z", "stocktaking", "phoenix freeze override web"):
        assert part in told.message


# -- what people say -------------------------------------------------------------------------------


def by_hand(name: str = "now", **fields: Any) -> StartedFreeze:
    return StartedFreeze(freeze=freeze(**{"name": name, **fields}), by="ada", at=T0)


def test_a_freeze_that_a_person_began_ends_by_its_name_and_those_that_are_over_are_forgotten() -> None:
    said = started(Said(), by_hand("first", until="2026-01-01T01:00"), ())
    said = started(said, by_hand("second"), ())
    assert [one.freeze.name for one in said.freezes] == ["first", "second"]
    late = by_hand("third").model_copy(update={"at": T0 + 2 * HOUR})
    said = started(said, late, ())
    assert [one.freeze.name for one in said.freezes] == ["second", "third"]
    left, found = ended(said, "second", ())
    assert found.freeze.name == "second"
    assert [one.freeze.name for one in left.freezes] == ["third"]


def test_a_name_that_is_taken_or_unknown_is_refused_and_one_of_the_file_is_ended_there() -> None:
    said = started(Said(), by_hand("one"), ())
    with pytest.raises(BadState):
        started(said, by_hand("one"), ())
    with pytest.raises(BadState):
        started(said, by_hand("peak"), [freeze()])
    with pytest.raises(NotFound):
        ended(said, "two", ())
    with pytest.raises(BadState, match="configuration"):
        ended(said, "peak", [freeze()])


def test_an_override_is_for_one_revision_and_the_last_word_counts() -> None:
    first = Override(rollout="web", revision="r1", by="ada", at=T0, reason="fix")
    said = overridden(overridden(Said(), first), first.model_copy(update={"revision": "r2"}))
    assert thawed(said) == {"web": "r2"}


# -- what the machine does -------------------------------------------------------------------------


@pytest.mark.parametrize("state", [State.IDLE, State.PROMOTED, State.ROLLED_BACK])
def test_no_release_begins_and_the_status_says_why_once(state: State) -> None:
    seen = turn(status_in(state), target=NEXT, hold=HELD)
    assert (seen.status.state, seen.status.obstacle, seen.status.message) == (state, HELD, HELD.message)
    assert reasons(seen) == ["Waiting"]
    assert reasons(turn(seen.status, T0 + MINUTE, target=NEXT, hold=HELD)) == []
    begun = turn(seen.status, T0 + HOUR, target=NEXT)
    assert (begun.status.state, begun.status.obstacle, begun.status.canary) == (State.STARTING, None, NEXT)
    assert begun.status.release_started == T0 + HOUR


def test_what_waits_and_is_not_wanted_any_more_leaves_no_trace_in_the_status() -> None:
    waiting = turn(status_in(State.IDLE), target=NEXT, hold=HELD).status
    seen = turn(waiting, T0 + MINUTE, target=OLD, hold=HELD)
    assert (seen.status.state, seen.status.obstacle) == (State.IDLE, None)
    assert reasons(seen) == ["WaitingEnded"]


def test_a_return_to_what_was_stable_never_waits() -> None:
    assert turn(status_in(State.IDLE), target=NEXT, fast=True, hold=HELD).status.state is State.STARTING
    back = turn(status_in(State.BAKING), target=OLD, hold=HELD, halt=HELD)
    assert back.status.state is State.ROLLING_BACK


def test_a_bake_goes_on_while_what_is_wanted_next_waits() -> None:
    seen = turn(status_in(State.BAKING), target=NEXT, hold=HELD)
    assert (seen.status.state, seen.release) == (State.BAKING, None)


@pytest.mark.parametrize("state", [State.STARTING, State.PROGRESSING, State.PAUSED, State.PROMOTING])
def test_a_release_that_is_not_wanted_any_more_leaves_although_its_successor_waits(state: State) -> None:
    seen = turn(status_in(state), target=NEXT, hold=HELD)
    assert (seen.status.state, seen.status.weight) == (State.CANCELLING, 0)
    assert seen.release is not None
    assert seen.release.revision == NEW
    gone = turn(seen.status, T0 + MINUTE, target=NEXT, hold=HELD)
    assert gone.status.state is State.IDLE


def test_a_release_under_way_goes_on_unless_the_freeze_says_otherwise() -> None:
    over = T0 + 10 * MINUTE
    good = verdict(VerdictKind.ADVANCE, over)
    assert turn(status_in(State.PROGRESSING), over, verdict=good, hold=HELD).status.step == 1
    halted = turn(status_in(State.PROGRESSING), over, verdict=good, halt=HELD).status
    assert (halted.step, halted.weight, halted.obstacle) == (0, 5, HELD)
    assert turn(halted, over + SECOND, verdict=good).status.step == 1


@pytest.mark.parametrize("kind", [CommandKind.PROMOTE, CommandKind.PROMOTE_FULL])
def test_nobody_skips_a_step_past_a_freeze_that_pauses(kind: CommandKind) -> None:
    seen = turn(status_in(State.PROGRESSING), commands=(command(kind),), halt=HELD)
    assert (seen.status.state, seen.status.step) == (State.PROGRESSING, 0)
    assert "CommandRefused" in reasons(seen)
    assert seen.status.handled == ("c1",)


def test_a_retry_waits_for_the_freeze_to_end() -> None:
    seen = turn(status_in(State.ROLLED_BACK), commands=(command(CommandKind.RETRY),), hold=HELD)
    assert seen.status.state is State.ROLLED_BACK
    assert "CommandRefused" in reasons(seen)


@pytest.mark.parametrize(
    "state", [State.STARTING, State.PROGRESSING, State.PAUSED, State.PROMOTING, State.BAKING]
)
def test_r2_neither_hold_nor_halt_keeps_anybody_from_an_abort(state: State) -> None:
    for target in (None, NEXT):
        changes = {"target": target} if target else {}
        seen = turn(status_in(state), commands=(command(CommandKind.ABORT),), hold=HELD, halt=HELD, **changes)
        assert seen.status.state is State.ROLLING_BACK
        assert seen.abort == NEW


def test_a_bad_verdict_takes_back_in_a_freeze() -> None:
    bad = verdict(VerdictKind.ROLLBACK, T0 + SECOND, step=LAST)
    for state in (State.PROGRESSING, State.PROMOTING):
        seen = turn(status_in(state), T0 + 2 * SECOND, verdict=bad, hold=HELD, halt=HELD)
        assert seen.status.state is State.ROLLING_BACK
