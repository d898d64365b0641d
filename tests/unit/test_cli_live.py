"""What people see of a rollout: the live view, lines, tables."""

from __future__ import annotations

import asyncio
import io
from datetime import timedelta

import pytest
from rich.console import Console
from tests.integration.fake_phoenix import NEW, NOW, OLD, FakeOperations, cause, view

from phoenix_orch.cli import following, live, obeying, output, pages, tables
from phoenix_orch.health_validator.observation import Category
from phoenix_orch.kernel.errors import BadState
from phoenix_orch.rollout.status import Command, CommandKind, State, Verification, VerifyStep
from phoenix_orch.traffic.router import TrafficSeen


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


def test_requests_given_up_on_are_shown_where_there_are_any():
    assert "gave up" not in text(live.render(view(step=1)))
    assert "GAVE UP" not in tables.variants(view(step=1))
    one = view(step=1)
    left = one.model_copy(update={"canary": one.canary.model_copy(update={"abandoned": 1234})})
    lines = text(live.render(left)).splitlines()
    assert lines[5].split()[-4:] == ["failed", "gave", "up", "ready"]
    assert lines[6].split()[-3:] == ["1", "1,234", "1/1"]
    assert lines[7].split()[-3:] == ["0", "0", "2/2"]
    header, canary, _ = tables.variants(left).splitlines()
    assert "GAVE UP" in header
    assert "1,234" in canary


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
    assert " 4.9 " in text(live.render(fast))  # requests of a second of the same clock as the times


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
@pytest.mark.parametrize("state", list(State))
def test_every_state_fits_every_width(state, width):
    shown = text(live.render(view(state)), width)
    assert all(len(line) <= width for line in shown.splitlines())
    assert pages.status(view(state)).startswith("web: ")
    assert pages.describe(view(state), [], [])
    assert pages.explained(view(state))
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


def test_columns_are_aligned_and_a_row_is_one_line_in_a_pipe():
    rows = [("a", "long text here " * 20), ("bbb", "")]
    shown = output.columns(("X", "Y"), rows, empty="").splitlines()
    assert shown == ["X    Y", f"a    {rows[0][1]}".rstrip(), "bbb  -"]
    assert output.columns(("X",), [], empty="nothing") == "nothing"


def test_the_last_column_is_folded_in_its_place_on_a_terminal(monkeypatch):
    monkeypatch.setattr(output, "width", lambda: 40)
    rows = [("a", "within limits for 5m of 15m at 20 % traffic")]
    assert output.columns(("X", "Y"), rows, empty="") == (
        "X  Y\na  within limits for 5m of 15m at 20 %\n   traffic"
    )
    assert output.columns(("X", "Y"), rows, empty="", indent=2).splitlines()[1:] == [
        "  a  within limits for 5m of 15m at 20 %",
        "     traffic",
    ]
    assert output.columns(("X", "Y"), rows, empty="", whole=False).splitlines()[1] == (
        "a  within limits for 5m of 15m at 20 % …"
    )


def test_the_last_column_goes_below_the_others_where_there_is_no_room_beside_them(monkeypatch):
    monkeypatch.setattr(output, "width", lambda: 40)
    rows = [("first", "2026-03-01T12:00:00Z", "version 1.5.0 is released step by step"), ("b", "c", "d")]
    assert output.columns(("X", "TIME", "WHY"), rows, empty="").splitlines() == [
        "X      TIME                  WHY",
        "first  2026-03-01T12:00:00Z",
        "    version 1.5.0 is released step by",
        "    step",
        "b      c                     d",
    ]


def test_no_line_is_broken_in_a_word_or_an_address_in_two():
    address = "/var/lib/phoenix/services/web/logs/web-1111111111-1.log"
    shown = output.folded(f"  the log of the instance is at {address}, as always", 30)
    assert shown.splitlines()[:2] == ["  the log of the instance is", "      at"]
    assert address in shown


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("state", list(State))
def test_tables_and_pages_fit_the_terminal(monkeypatch, width, state):
    monkeypatch.setattr(output, "width", lambda: width)
    operations = FakeOperations(state)
    picture = view(state).model_copy(update={"speed": 20.0})
    events, kept = asyncio.run(operations.events("web", 10)), asyncio.run(operations.revisions("web"))
    shown = [
        tables.rollouts([picture]),
        tables.services(asyncio.run(operations.services())),
        tables.history(asyncio.run(operations.history("web", 10))),
        *(output.folded(text, width) for text in (pages.status(picture), pages.explained(picture))),
        output.folded(pages.describe(picture, events, kept), width),
        output.folded(output.compressed(20), width),
    ]
    assert not [line for text in shown for line in text.splitlines() if len(line) > width]


async def test_tables_of_everything_the_api_gives():
    operations = FakeOperations()
    assert "web   Progressing  1.4.0   1.5.0   initial 1/6" in tables.rollouts(await operations.views())
    assert "2/2    web      http://127.0.0.1:8080" in tables.services(await operations.services())
    history = tables.history(await operations.history("web", 10)).splitlines()
    assert history[1].split()[:3] == ["2", "1.5.0", "rolledBack"]
    assert "errors 3.1% are above" in history[1]
    assert "applied by root" in tables.revisions(await operations.revisions("web"), view())
    assert "WeightSeen  5 % reach the canary" in tables.events(await operations.events("web", 10))


# -- the share of traffic --------------------------------------------------------------------------


@pytest.mark.parametrize("state", [State.BAKING, State.PROMOTED, State.IDLE])
def test_a_version_that_serves_everybody_is_shown_with_100_percent(state):
    picture = view(state, stable=NEW, canary=None, weight=0, previous=OLD).model_copy(
        update={"seen": TrafficSeen(weight=0, canary_revision=None, stable_revision=NEW)}
    )
    assert tables.rollouts([picture]).splitlines()[1].split().count("100%") == 2
    assert f"stable 1.5.0 ({NEW}), 100% wanted, 100% seen" in pages.status(picture)
    assert "  100% wanted, 100% seen" in pages.describe(picture, [], [])
    assert "weight 100% wanted, 100% seen" in text(live.render(picture))
    assert "weight 100% seen 100%" in live.line(picture)


def test_a_promotion_that_is_seen_before_it_is_noted_is_seen_with_100_percent():
    picture = view(State.PROMOTING, weight=100).model_copy(
        update={"seen": TrafficSeen(weight=0, canary_revision=None, stable_revision=NEW)}
    )
    assert "100% wanted, 100% seen" in pages.status(picture)


def test_a_version_that_is_not_seen_to_serve_yet_is_shown_without():
    picture = view(State.BAKING, stable=NEW, canary=None, weight=0, previous=OLD)
    assert f"stable 1.5.0 ({NEW}), 100% wanted, 0% seen" in pages.status(picture)
    first = view(State.INITIALIZING, stable=NEW, canary=None, weight=0)
    assert "%" not in pages.status(first).splitlines()[1]


def test_a_release_that_walks_is_shown_with_its_step_and_the_share_of_the_canary():
    shown = pages.status(view(step=1))
    assert f"canary 1.5.0 ({NEW}), 20% wanted, 20% seen" in shown
    assert "step 2 of 6: expanded, 20% for 15m, 4m of them over" in shown


# -- verification ----------------------------------------------------------------------------------

FAILED = Verification(
    kind="rollback",
    revision=OLD,
    release=3,
    at=NOW,
    steps=(
        VerifyStep(name="health endpoints", ok=True, detail="2 of 2 answer"),
        VerifyStep(name="metrics", ok=False, unknown=True, detail="too few requests within 1m"),
        VerifyStep(name="critical path login", ok=False, detail="http://x/login: status 404, expected 200"),
    ),
)


@pytest.mark.parametrize("width", [None, 80])
def test_a_failed_verification_is_named_with_its_step_and_what_was_found(monkeypatch, width):
    monkeypatch.setattr(output, "width", lambda: width)
    picture = view(State.ROLLED_BACK, verification=FAILED)
    for shown in (pages.explained(picture), pages.describe(picture, [], [])):
        assert "Verification after the rollback of release 3" in shown
        row = next(line for line in shown.splitlines() if "critical path login" in line and "!" in line)
        assert " ".join(row.split()) == "! critical path login http://x/login: status 404, expected 200"
    told = "verification after the rollback failed: critical path login: http://x/login: status 404"
    assert told in " ".join(pages.status(picture).split())
    passed = view(State.PROMOTED, verification=FAILED.model_copy(update={"steps": FAILED.steps[:2]}))
    assert "failed" not in pages.status(passed)


# -- compressed time -------------------------------------------------------------------------------


def test_times_that_are_not_those_on_a_watch_are_said_to_be_so():
    assert output.compressed(1) == ""
    assert output.compressed(20) == (
        "Times and rates are compressed (--speed 20): one minute is 3s on your watch."
    )
    assert "one minute is 600ms" in output.compressed(100)
    fast = view().model_copy(update={"speed": 20.0})
    assert "46m left (2m18s on your watch)" in pages.status(fast)
    assert "46m (2m18s on your watch)" in pages.describe(fast, [], [])
    assert "compressed (--speed 20)" in text(live.render(fast, clock=True))
    assert "on your watch" not in pages.describe(view(), [], [])


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


def test_a_list_shows_the_first_clause_of_a_long_reason():
    reason = "canary failed 12 of 3,000 requests = 0.4 % (limit 0.1 %); stable failed 0.05 %. If the version"
    assert tables.gist(reason) == "canary failed 12 of 3,000 requests = 0.4 % (limit 0.1 %)"
    assert tables.gist("promoted; the bake is over") == "promoted"
    assert tables.gist("the canary is ready") == "the canary is ready"


@pytest.mark.parametrize(
    ("state", "lines"),
    [
        (
            State.PROGRESSING,
            [
                "web Progressing 5%",
                "verdict continue",
                "initial 1/6",
                "46m left",
                "all metrics within their limits",
            ],
        ),
        (
            State.ROLLED_BACK,
            ["web RolledBack 0%", "rolled back by verdict", "errors 3.1% are above the limit of 0.1%"],
        ),
    ],
)
def test_a_small_terminal_gets_a_few_lines(state, lines):
    for columns, rows in ((39, 40), (200, 11), (20, 5), (8, 2), (1, 1), (0, 0)):
        shown = text(live.fitted(view(state), columns, rows), max(1, columns)).splitlines()
        assert len(shown) <= max(1, min(rows, len(lines)))
        for found, whole in zip(shown, lines, strict=False):
            cut = found.endswith("…") and whole.startswith(found[:-1].rstrip())
            assert found == whole or cut
    assert text(live.fitted(view(state), 200, 11), 200).splitlines() == lines
    assert text(live.fitted(view(state), 90, 24)) == text(live.render(view(state), clock=True))


def test_revisions_say_what_each_is_now():
    def parts(picture):
        return {name: tables.part(picture, name) for name in (OLD, NEW)}

    assert parts(view()) == {OLD: "stable", NEW: "canary"}
    assert parts(view(State.BAKING, stable=NEW, canary=None, previous=OLD)) == {
        OLD: "kept warm",
        NEW: "stable",
    }
    assert parts(view(State.ROLLED_BACK)) == {OLD: "stable", NEW: "latched"}


@pytest.mark.parametrize(
    ("kind", "typed"),
    [
        (CommandKind.PROMOTE, "promote"),
        (CommandKind.PROMOTE_FULL, "promote --full"),
        (CommandKind.END_BAKE, "promote --end-bake"),
    ],
)
def test_a_word_is_called_what_a_person_types(kind, typed):
    with pytest.raises(BadState, match=f"cannot {typed} web: "):
        obeying.check(view(State.ROLLED_BACK), kind, None)


async def test_the_history_is_a_line_each_and_one_release_has_all_of_it():
    (ended, before) = await FakeOperations().history("web", 10)
    long = f"canary failed 6 of 33 requests; {'and more of it ' * 20}"
    told = ended.model_copy(update={"cause": ended.cause.model_copy(update={"reason": long})})
    shown = tables.history([told, before])
    assert "canary failed 6 of 33 requests\n" in shown
    assert "and more of it" not in shown
    brief = before.model_copy(update={"reason": "promoted; the bake is over"})
    assert "promoted; the bake is over" in tables.history([brief])
    whole = pages.release(told)
    assert f"verdict: {long}" in whole
    assert "! " in whole  # the evidence
    assert "Reason:   all steps passed" in pages.release(before)


def test_a_release_that_waits_for_a_person_says_what_comes_without_one():
    waiting = view(step=1, hold_since=NOW)
    assert "without a word" not in pages.status(waiting)
    verdict = waiting.verdict.model_copy(update={"category": Category.NO_DECISION})
    told = pages.status(waiting.model_copy(update={"verdict": verdict}))
    assert (
        "without a word it is taken back at 2026-03-01T13:00:00Z (holdTimeout, onHoldTimeout: rollback)"
        in told
    )
