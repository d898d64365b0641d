"""The store loses everything: who serves goes on, what was on the way is taken off, and it is said."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest
from redis import Redis
from tests.faults import outcomes
from tests.faults.story import NAME, Story, story, until
from tests.faults.story_cases import GOOD, Outcome

from phoenix_orch.orchestrator.views import RolloutView
from phoenix_orch.rollout.status import CommandKind, State

pytestmark = pytest.mark.timeout(300)

LONG = {
    "phases": [
        {"name": name, "weight": weight, "duration": duration, "limits": {"errorRate": "60%"}}
        for name, weight, duration in (("first", 20, "30s"), ("second", 60, "2h"), ("full", 100, "30s"))
    ]
}
"""It stays at 60 % for minutes: longer than it takes to notice that a directory was deleted."""


def removed(made: Story) -> None:
    """The directory is deleted while the server runs on it."""
    shutil.rmtree(made.data / "valkey")


def emptied(made: Story) -> None:
    with Redis(unix_socket_path=str(made.data / "valkey" / "valkey.sock")) as server:
        server.flushall()


def gone_at_the_next_start(made: Story) -> None:
    made.kill(made.phoenix.pid)
    made.kill(made.valkey_pid())
    shutil.rmtree(made.data / "valkey")
    made.restart()


def pids(made: Story, revision: str | None) -> set[int | None]:
    view = until("the instances", made.view)
    return {one.pid for one in view.workload.of(revision or "")} if view.workload else set()


def founded_anew(made: Story, stable: str | None) -> RolloutView:
    """The rollout is back, rests on the same stable revision, and all traffic goes to it."""
    view = made.until_view(
        "it rests on what serves",
        lambda view: (
            view.rollout.status.state is State.IDLE
            and view.rollout.status.stable == stable
            and view.seen is not None
            and (view.seen.weight, view.seen.stable_revision) == (0, stable)
            and view.workload is not None
            and {one.revision for one in view.workload.instances} == {stable}
        ),
    )
    told = [event for event in made.events() if event.reason == "StoreLost"]
    assert len(told) == 1
    assert "history, events and observations are lost" in told[0].message
    assert "the store is new or empty" in made.log(10_000)
    return view


@pytest.mark.parametrize(
    "lose",
    [
        pytest.param(removed, marks=pytest.mark.slow),
        pytest.param(emptied, marks=pytest.mark.slow),
        gone_at_the_next_start,
    ],
)
def test_in_the_middle_of_a_release(lose: Callable[[Story], None]) -> None:
    with story(settings={"rollout": LONG}) as made:
        version = made.begin()
        view = made.until_view(
            "60 %",
            lambda view: view.rollout.status.state is State.PROGRESSING and view.rollout.status.weight == 60,
        )
        stable = view.rollout.status.stable
        before, at = pids(made, stable), view.at
        lose(made)
        view = founded_anew(made, stable)
        assert pids(made, stable) == before, "nobody who serves was ended"
        assert view.at > at
        assert made.traffic().canary is None
        assert f"version {version} was at 60 % and is taken off" in view.rollout.status.message
        made.until_nobody_is_lost()
        failures = made.users.failures_since(0.0)
        assert not failures
        again = made.begin()
        made.until_state(State.PROGRESSING)
        made.client.command(NAME, CommandKind.PROMOTE_FULL)
        assert made.ending(again) == GOOD, "the next release is an ordinary one"
        outcomes.keep(
            Outcome(f"store {lose.__name__.replace('_', ' ')}", "good", "step 2", "Idle", 0, 0.0).line()
        )


@pytest.mark.slow
def test_in_the_bake_who_serves_everybody_stays() -> None:
    with story(settings={"policy": {"bake": "1h"}}) as made:
        made.begin()
        view = made.until_state(State.BAKING)
        stable = view.rollout.status.stable
        before = pids(made, stable)
        emptied(made)
        founded_anew(made, stable)
        assert pids(made, stable) == before
        assert not made.users.failures_since(0.0)


@pytest.mark.slow
def test_a_latch_outlives_the_store() -> None:
    with story() as made:
        bad = made.begin("errors:0.9")
        made.until_state(State.ROLLED_BACK)
        made.ending(bad)
        emptied(made)
        founded_anew(made, made.traffic().stable.revision)
        refused = made.cli("rollout", "start", NAME, "--version", bad, "--env", "SHOP_FAULT=errors:0.9")
        assert refused.returncode == 2
        assert "latched" in refused.stderr
