"""What people see of a rollout: the live view, lines, tables."""

from __future__ import annotations

import io
from datetime import timedelta

import pytest
from rich.console import Console
from tests.integration.fake_phoenix import NEW, NOW, OLD, FakeOperations, cause, view

from phoenix_orch.cli import following, live, output, tables
from phoenix_orch.rollout.status import Command, CommandKind, State


def text(renderable, width=90):
    console = Console(file=io.StringIO(), width=width, height=24, color_system=None)
    console.print(renderable)
    return console.file.getvalue()


def test_the_live_view_shows_what_matters_in_one_screen():
    shown = text(live.render(view(step=1)))
    assert "web  1.4.0 → 1.5.0  Progressing  46m left" in shown
    assert "✓ initial 5%  ▶ expanded 20%  · full 40% 60% 80% 100%  · bake" in shown
    assert "weight 20% wanted, 20% seen" in shown
    assert "verdict continue: all metrics within their limits" in shown
    assert "latency p95 81.2 ms, at most 100 ms, stable 46.1 ms" in shown
    assert shown.splitlines()[6].split() == [
        "canary",
        "1.5.0",
        "4.9",
        "0.04",
        "%",
        "81.2",
        "ms",
        "120",
        "ms",
        "2,940",
        "1",
        "1/1",
    ]
    assert len(shown.splitlines()) <= 20


def test_a_step_inside_a_staircase_is_marked():
    assert "▶ full" not in text(live.render(view(step=3)))
    assert "full 40% ▶ 60% 80% 100%" in text(live.render(view(step=3)))


def test_a_rollback_is_told_with_its_cause_and_the_latch():
    shown = text(live.render(view(State.ROLLED_BACK)))
    assert "✗ initial 5%" in shown
    assert "latched" in shown
    assert "rolled back by verdict: errors 3.1% are above the limit of 0.1%" in shown
    assert "! error rate 3.1 %, at most 0.1 %" in shown


def test_baking_and_promoted():
    assert "▶ bake" in text(live.render(view(State.BAKING, stable=NEW, canary=None, previous=OLD)))
    assert "✓ bake" in text(live.render(view(State.PROMOTED)))


def test_what_cannot_be_read_is_said_and_not_guessed():
    blind = view().model_copy(
        update={"seen": None, "traffic": None, "workload": None, "verdict": None, "time_left": None}
    )
    shown = text(live.render(blind))
    assert "not seen: the router does not answer" in shown
    assert "verdict" not in shown
    assert "left" not in shown.splitlines()[0]


def test_compressed_time_is_told_in_both_ways():
    fast = view().model_copy(update={"speed": 60.0})
    assert "46m left (46s on your watch)" in text(live.render(fast))
    assert " 294.0 " in text(live.render(fast))  # requests of a real second


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
@pytest.mark.parametrize("state", list(State))
def test_every_state_fits_every_width(state, width):
    shown = text(live.render(view(state)), width)
    assert all(len(line) <= width for line in shown.splitlines())
    assert tables.status(view(state)).startswith("web: ")
    assert tables.describe(view(state), [], [])
    assert tables.explained(view(state))
    assert "\n" not in live.line(view(state))


def test_lines_are_printed_for_changes_only():
    later = view().model_copy(update={"at": NOW + timedelta(seconds=5), "time_left": timedelta(minutes=1)})
    assert live.change_key(view()) == live.change_key(later)
    assert live.change_key(view()) != live.change_key(view(step=1))
    assert live.change_key(view()) != live.change_key(view().model_copy(update={"seen": None}))


@pytest.mark.parametrize(
    ("picture", "rests"),
    [
        (view(State.PROMOTED, stable=NEW), True),
        (view(State.IDLE, stable=NEW), True),
        (view(State.IDLE, stable=OLD), False),  # another revision is wanted; the machine has not begun
        (view(State.ROLLED_BACK), True),
        (
            view(
                State.ROLLED_BACK,
                canary="3333333333",
                cause=cause().model_copy(update={"revision": "3333333333"}),
            ),
            False,
        ),
        (view(State.PROGRESSING), False),
        (view(State.PAUSED), False),
        (view(State.BAKING), False),
        (view(State.ROLLING_BACK), False),
    ],
)
def test_when_a_rollout_rests(picture, rests):
    assert following.settled(picture) is rests
    command = Command(id="x", kind=CommandKind.RETRY, actor="me", at=NOW)
    waiting = picture.rollout.model_copy(update={"commands": (command,)})
    assert not following.settled(picture.model_copy(update={"rollout": waiting}))


def test_columns_are_aligned_and_cut_only_on_a_terminal(monkeypatch):
    rows = [("a", "long text here"), ("bbb", "")]
    assert output.columns(("X", "Y"), rows, empty="") == "X     Y\na     long text here\nbbb   -"
    assert output.columns(("X",), [], empty="nothing") == "nothing"
    monkeypatch.setattr(output, "width", lambda: 12)
    assert output.columns(("X", "Y"), rows, empty="").splitlines()[1] == "a     long …"


async def test_tables_of_everything_the_api_gives():
    operations = FakeOperations()
    assert "web    Progressing   1.4.0    1.5.0    initial 1/6" in tables.rollouts(await operations.views())
    assert "2/2     web       http://127.0.0.1:8080" in tables.services(await operations.services())
    history = tables.history(await operations.history("web", 10)).splitlines()
    assert history[1].split()[:4] == ["2", "1.5.0", NEW, "rolledBack"]
    assert "errors 3.1% are above" in history[1]
    assert "applied by root" in tables.revisions(await operations.revisions("web"))
    assert "WeightSeen   5 % reach the canary" in tables.events(await operations.events("web", 10))


def test_following_is_patient_but_not_for_ever(monkeypatch, capsys):
    pictures = [view(), view(), view(step=1), view(State.PROMOTED, stable=NEW)]

    class Client:
        def rollout(self, name):
            assert name == "web"
            return pictures.pop(0) if len(pictures) > 1 else pictures[0]

    monkeypatch.setattr(following, "INTERVAL", 0.001)
    assert following.follow(Client(), "web", timeout=None) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[2] for line in lines] == ["Progressing", "Progressing", "Promoted"]
    pictures[:] = [view()]
    assert following.follow(Client(), "web", timeout=0.01) == 5
    pictures[:] = [view(State.ROLLED_BACK)]
    assert following.follow(Client(), "web", timeout=None) == 4
