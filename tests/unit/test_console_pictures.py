"""What pages are made of: the track, the buttons, what is wrong and due, columns of numbers, two releases."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.integration.fake_phoenix import NOW, OLD, cause, verdict, view

from phoenix_orch.console.comparing import compared
from phoenix_orch.console.overview import overview
from phoenix_orch.console.series import MOST, evidence, shares, thinned
from phoenix_orch.console.track import START, UNDO, acts, all_acts, track
from phoenix_orch.health_validator.observation import VerdictKind
from phoenix_orch.health_validator.picture import Known, Picture, Point
from phoenix_orch.kernel.errors import NotFound
from phoenix_orch.orchestrator.flow_views import FreezeView
from phoenix_orch.orchestrator.views import Fault
from phoenix_orch.rollout.commands import refusal
from phoenix_orch.rollout.freezes import Freeze
from phoenix_orch.rollout.status import CommandKind, Obstacle, Outcome, Release, State


@pytest.mark.parametrize("step", range(6))
def test_the_track_has_all_steps_and_one_is_now(step: int) -> None:
    seen = view(State.PROGRESSING, step=step)
    stages = track(seen)
    stops = [stop for stage in stages for stop in stage.stops]
    assert len(stops) == len(seen.steps) + 1
    assert [stop.mark for stop in stops].count("now") == 1
    assert [stop.mark for stop in stops[:step]] == ["done"] * step
    assert stages[-1].name == "bake"


def test_the_track_shows_where_a_release_failed_and_that_one_is_over() -> None:
    failed = [stop.mark for stage in track(view(State.ROLLED_BACK, step=1)) for stop in stage.stops]
    assert failed[:2] == ["done", "failed"]
    assert {stage.mark for stage in track(view(State.PROMOTED))} == {"done"}


@pytest.mark.parametrize("state", list(State))
def test_a_button_is_there_while_its_word_makes_sense(state: State) -> None:
    shown = {act.kind for act in acts(view(state))}
    status = view(state).rollout.status
    for kind in CommandKind:
        assert (kind.value in shown) == (refusal(status, kind) is None)
    assert shown <= {act.kind for act in all_acts()}
    assert (START.kind in shown) == (state in (State.IDLE, State.PROMOTED, State.ROLLED_BACK))
    assert (UNDO.kind in shown) == (START.kind in shown)


def test_what_is_wrong_and_what_is_due() -> None:
    broken = view(State.ROLLED_BACK).model_copy(update={"faults": (Fault(at="store", message="away"),)})
    paused = view(State.PAUSED, name="shop", pause_by="ida")
    waits = view(State.PAUSED, name="api", obstacle=Obstacle(reason="Frozen", message="until Monday"))
    found = overview([broken, paused, waits], [{"name": "store", "state": "does not answer"}])
    assert [item.text for item in found.wrong][:2] == ["store: does not answer", "store: away"]
    assert "rolled back" in found.wrong[2].text
    assert [(item.name, item.text) for item in found.due] == [
        ("shop", "paused by ida"),
        ("api", "waits: until Monday"),
    ]
    assert [one.rollout.name for one in found.releasing] == ["shop", "api"]
    assert overview([view(State.IDLE)], [{"name": "store", "state": "ok"}]).wrong == ()


def test_a_freeze_is_due_while_it_holds_and_a_day_before() -> None:
    def freeze(*, holds: bool, begin: datetime) -> FreezeView:
        return FreezeView(freeze=Freeze(name="f", reason="fair"), source="person", open=holds, begin=begin)

    now = freeze(holds=True, begin=NOW - timedelta(days=3))
    soon = freeze(holds=False, begin=NOW + timedelta(hours=20))
    later = freeze(holds=False, begin=NOW + timedelta(hours=30))
    assert overview([view(State.IDLE)], [], [now, soon, later]).freezes == (now, soon)


@given(st.lists(st.integers(), max_size=3 * MOST))
def test_thinned_keeps_the_last_and_the_order(points: list[int]) -> None:
    found = thinned(list(enumerate(points)))
    assert len(found) <= MOST
    assert found == sorted(found)
    assert found[-1:] == list(enumerate(points))[-1:]


def picture(threshold: float | None) -> Picture:
    known = Known(bad=1, requests=100, observed=0.01, lower=0.001, upper=0.05)
    point = Point(seconds=10, step=0, weight=5, limit=0.02, canary=known, stable=None, e=4.0)
    return Picture(metric="errorRate", confidence=0.95, threshold=threshold, points=(point, point))


def test_columns_are_in_per_cent_and_unknown_is_null() -> None:
    found = shares(picture(100.0))
    assert found["canary"]["observed"] == [1.0, 1.0]
    assert found["stable"]["upper"] == [None, None]
    assert found["limit"] == [2.0, 2.0]
    assert found["top"] >= 5.0
    strong = evidence(picture(100.0))
    assert strong is not None
    assert strong["e"] == [4.0, 4.0]
    assert evidence(picture(None)) is None


def test_two_releases_side_by_side() -> None:
    good = Release(
        number=1,
        revision=OLD,
        version="1.4.0",
        started=NOW - timedelta(hours=1),
        ended=NOW,
        outcome=Outcome.PROMOTED,
        verdict=verdict(VerdictKind.ADVANCE),
    )
    bad = good.model_copy(
        update={"number": 2, "version": "1.5.0", "outcome": Outcome.ROLLED_BACK, "cause": cause()}
    )
    rows = {row.label: row for row in compared([bad, good], 1, 2)}
    assert (rows["Version"].one, rows["Version"].other) == ("1.4.0", "1.5.0")
    assert rows["Outcome"].differs
    assert not rows["Took"].differs
    assert rows["Error rate"].other == "3.1 % of 640"
    with pytest.raises(NotFound):
        compared([bad, good], 1, 9)
