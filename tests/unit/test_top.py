"""`phoenix top`: what a frame shows, that it fits, and where keys lead."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from rich.console import Console
from tests.integration.fake_flow import DECLARED
from tests.integration.fake_phoenix import NOW, view

from phoenix_orch.cli.terminal_keys import keys_of
from phoenix_orch.cli.top_frame import Mode, Picture, Place, frame, ordered, pressed
from phoenix_orch.orchestrator.flow_views import FreezeView
from phoenix_orch.orchestrator.views import Fault, RolloutView
from phoenix_orch.rollout.status import Obstacle, State

FREEZE = FreezeView(
    freeze=DECLARED.freezes[0], source="configuration", open=True, until=NOW + timedelta(hours=4)
)
START = Place()
WAITS = Obstacle(reason="Frozen", message="frozen by year-end")


def picture(*views: RolloutView, **fields: Any) -> Picture:
    return Picture(views=views, at=NOW, **fields)


def shown(what: Picture, place: Place = START, columns: int = 80, rows: int | None = 24) -> str:
    console = Console(width=columns, height=rows or 200, force_terminal=False, color_system=None)
    with console.capture() as captured:
        console.print(frame(what, place, columns, rows))
    return captured.get()


EVERYTHING = picture(
    view(State.PROGRESSING, name="web", step=1),
    view(State.ROLLED_BACK, name="bank"),
    view(State.IDLE, name="mail", obstacle=WAITS),
    view(State.PROMOTED, name="shop"),
    freezes=(FREEZE,),
    components=({"name": "store", "state": "ok"}, {"name": "router", "state": "down", "detail": "exited"}),
)


def test_it_says_what_is_releasing_what_is_wrong_and_what_is_due() -> None:
    text = shown(EVERYTHING)
    for part in ("4 rollouts, 1 releasing, 1 waiting", "━▶····", "expanded 2/6", "20% (", "errors ", "p95 "):
        assert part in text
    for part in ("router is down: exited", "bank was rolled back by", "freeze year-end of *", "stocktaking"):
        assert part in text
    assert "waits: frozen by year-end" in text
    order = [text.index(part) for part in ("Releasing", "Wrong", "Due", "At rest", "Components")]
    assert order == sorted(order)


@pytest.mark.parametrize("size", [(80, 24), (140, 40), (40, 12), (60, 6), (20, 3)])
@pytest.mark.parametrize("mode", list(Mode))
def test_a_frame_never_exceeds_the_terminal(size: tuple[int, int], mode: Mode) -> None:
    many = picture(*[view(State.IDLE, name=f"service-{n}") for n in range(200)], *EVERYTHING.views)
    for what in (many, EVERYTHING, Picture(trouble="the store does not answer " * 9)):
        lines = shown(what, Place(mode=mode), *size).splitlines()
        assert len(lines) <= max(size[1], 3)
        assert all(len(line) <= size[0] for line in lines)


def test_what_is_selected_is_seen_however_many_there_are() -> None:
    many = picture(*[view(State.IDLE, name=f"service-{n:03}") for n in range(200)])
    for name in ("service-000", "service-117", "service-199"):
        assert f"▸ {name} " in shown(many, Place(selected=name))
    assert "more" in shown(many)


def test_a_pipe_gets_everything_and_no_keys() -> None:
    many = picture(*[view(State.IDLE, name=f"service-{n:03}") for n in range(200)])
    text = shown(many, rows=None)
    assert "service-199" in text
    assert "quit" not in text
    assert "▸" not in text


def test_a_look_that_failed_leaves_what_was_known_and_says_so() -> None:
    text = shown(replace(EVERYTHING, trouble="Phoenix is not running"))
    assert "not up to date: Phoenix is not running" in text
    assert "web" in text


def test_faults_of_a_rollout_are_wrong() -> None:
    faulty = view(State.PROGRESSING).model_copy(update={"faults": (Fault(at="abort", message="refused"),)})
    assert "web: abort: refused" in shown(picture(faulty))


def test_controls_of_a_terminal_in_words_of_others_do_not_reach_it() -> None:
    evil = view(State.PROGRESSING).model_copy(update={"faults": (Fault(at="x", message="a\x1b[2Jb"),)})
    assert "\x1b" not in shown(picture(evil))


def test_keys_lead_through_the_list_into_details_and_out() -> None:
    views = list(EVERYTHING.views)
    names = [one.rollout.name for one in ordered(views)]
    assert names == ["web", "mail", "bank", "shop"]

    def at(*keys: str) -> Place | None:
        place: Place | None = Place()
        for key in keys:
            place = pressed(place, key, views) if place is not None else None
        return place

    assert at("j", "j", "k") == Place(selected="mail")
    assert at("k") == Place(selected="web")
    assert at("G") == Place(selected="shop")
    assert at("G", "down", "g") == Place(selected="web")
    assert at("j", "enter") == Place(selected="mail", mode=Mode.DETAILS)
    assert at("j", "enter", "enter") == Place(selected="mail")
    assert at("j", "enter", "escape") == Place(selected="mail")
    assert at("?", "?") == Place()
    assert at("x") == Place()
    assert at("q") is None
    assert at("escape") is None
    assert pressed(Place(), "enter", []) == Place()


@pytest.mark.parametrize(
    ("sent", "keys"),
    [
        (b"q", ["q"]),
        (b"jj\r", ["j", "j", "enter"]),
        (b"\x1b[A\x1b[Bk", ["up", "down", "k"]),
        (b"\x1bOB", ["down"]),
        (b"\x1b", ["escape"]),
        (b"\x1b[15~q", ["q"]),
        ("ä".encode(), []),
        (b"\x1b[", []),
    ],
)
def test_bytes_of_a_terminal_become_keys(sent: bytes, keys: list[str]) -> None:
    assert keys_of(sent) == keys
