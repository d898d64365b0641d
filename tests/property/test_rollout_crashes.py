"""A crash anywhere ends in the same state (R7)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.property.rollout_rules import QUICK, REVISIONS
from tests.property.world import MINUTE, Crash, World, running

from phoenix_orch.health_validator.observation import VerdictKind
from phoenix_orch.kernel.errors import Conflict
from phoenix_orch.rollout.status import ACTIVE, CommandKind

STORIES = st.lists(
    st.one_of(
        st.tuples(st.just("target"), st.sampled_from(REVISIONS)),
        st.tuples(st.just("command"), st.sampled_from(list(CommandKind))),
        st.tuples(st.just("verdict"), st.sampled_from(list(VerdictKind))),
        st.tuples(st.just("pass"), st.integers(1, 12)),
        st.tuples(st.just("latch"), st.none()),
        st.tuples(st.just("bad"), st.sampled_from(REVISIONS)),
    ),
    min_size=1,
    max_size=12,
)
CRASHES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 6)), max_size=6)


def tell(story: list[tuple[str, Any]], crashes: list[tuple[int, int]], how: type[Exception] = Crash) -> World:
    """Play a story; in the passes that `crashes` names the pass ends before that action and starts again."""
    world, number = running(), 0
    cuts = dict(crashes)

    def one_pass() -> None:
        nonlocal number
        number += 1
        if number in cuts:

            def meanwhile(action: int) -> None:
                if action == cuts[number]:
                    raise how("cut off")

            world.run_pass(meanwhile=meanwhile)
        world.run_pass()

    for what, detail in story:
        match what:
            case "target":
                world.target = detail
            case "command":
                world.command(detail)
            case "verdict":
                world.judge(detail)
            case "latch":
                status = world.stored
                if status.state in ACTIVE and status.canary is not None and not status.clear_latch:
                    world.abort(status.canary)
            case "bad":
                world.bad ^= {detail} - {"v1"}
            case _:
                for _ in range(detail):
                    world.breathe(2 * MINUTE)
                    world.judge()
                    one_pass()
    world.heal()
    for _ in range(30):  # those the crashes may still fall into
        world.breathe(2 * MINUTE)
        world.judge()
        one_pass()
    world.settle()
    return world


def outcome(world: World) -> object:
    """What has to be the same however often the process died; not the moments."""
    status, found = world.stored, world.object
    assert found is not None
    return (
        status.model_copy(
            update=dict.fromkeys(
                ("since", "release_started", "cause", "verification", "hold_since", "step_clock")
            )
        ),
        status.cause.trigger if status.cause else None,
        (found.stable.revision, found.weight, found.aborted),
        [
            (r.number, r.revision, r.replaced, r.outcome, r.cause.trigger if r.cause else "")
            for r in world.history.values()
        ],
        sorted(one.revision for one in world.instances),
    )


@settings(QUICK, max_examples=120)
@given(STORIES, CRASHES)
def test_r7_a_crash_anywhere_ends_in_the_same_state(
    story: list[tuple[str, Any]], crashes: list[tuple[int, int]]
) -> None:
    assert outcome(tell(story, crashes)) == outcome(tell(story, []))


WAYS: dict[str, list[tuple[str, Any]]] = {
    "a good release": [("target", "v2")],
    "a latched release": [("target", "v2"), ("pass", 6), ("latch", None), ("pass", 6)],
    "an abort, a retry, a promotion": [
        ("target", "v2"),
        ("pass", 3),
        ("command", CommandKind.ABORT),
        ("pass", 5),
        ("command", CommandKind.RETRY),
        ("pass", 2),
        ("command", CommandKind.PROMOTE_FULL),
    ],
    "a rollback while baking": [
        ("target", "v2"),
        ("pass", 2),
        ("command", CommandKind.PROMOTE_FULL),
        ("pass", 3),
        ("command", CommandKind.ABORT),
        ("pass", 8),
    ],
    "superseded, then back to stable": [
        ("target", "v2"),
        ("pass", 4),
        ("target", "v3"),
        ("pass", 4),
        ("target", "v1"),
    ],
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("how", [Crash, Conflict])
def test_r7_case_25_and_26_cut_off_before_every_single_action(way: str, how: type[Exception]) -> None:
    """A restart at every boundary, and a conflict on every write, end as if nothing had happened."""
    whole = outcome(tell(WAYS[way], []))
    for number in range(1, 25):
        for action in range(6):
            assert outcome(tell(WAYS[way], [(number, action)], how=how)) == whole, (number, action)
