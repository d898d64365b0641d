"""An abort says what came of it: a word that was taken is not yet a canary without traffic."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator

import pytest
from tests.faults.story import NAME, Story, story, until
from tests.faults.story_cases import BAD
from tests.faults.test_story_abort import carrying

from phoenix_orch.rollout.status import State

pytestmark = pytest.mark.timeout(300)
PHASES = (
    {"name": "first", "weight": 20, "duration": "30m", "limits": {"errorRate": "60%", "latencyP95": "2s"}},
    {"name": "full", "weight": 100, "duration": "30s", "limits": {"errorRate": "60%", "latencyP95": "2s"}},
)


@pytest.fixture(scope="module")
def running() -> Iterator[Story]:
    with story(settings={"rollout": {"phases": PHASES}}) as made:
        yield made


def test_what_was_taken_back_was_seen_to_be(running: Story) -> None:
    version = running.begin()
    carrying(running, 20)
    done = running.cli("rollout", "abort", NAME, "-o", "json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert running.seen().weight == 0, "it is so at the moment it is said"
    assert (told["done"], told["latched"], told["recorded"], told["seen"]) == (True, True, True, 0)
    assert not told["byHand"]
    assert running.ending(version) == BAD


def test_a_table_that_cannot_be_written_is_told_and_nothing_is_claimed(running: Story) -> None:
    version = running.begin()
    carrying(running, 20)
    scratch, kept = running.data / "router" / "scratch", running.data / "router" / "kept"
    scratch.rename(kept)
    scratch.touch()  # every write fails, whoever asks for it
    try:
        done = running.cli("rollout", "abort", NAME, "-o", "json")
        assert running.seen().weight == 20
        again = running.cli("rollout", "abort", NAME, "--timeout", "2s")
        assert running.view().faults, "Phoenix says so itself"  # type: ignore[union-attr]
    finally:
        scratch.unlink()
        kept.rename(scratch)
    assert (done.returncode, again.returncode) == (1, 1)
    told = json.loads(done.stdout)
    assert (told["done"], told["latched"], told["seen"]) == (False, False, 20)
    for said in (done.stderr, again.stderr):
        assert f"{scratch} cannot be written" in said
        assert "still gets 20 % of the requests" in said
        assert "what to do: " in said
    assert "latched" not in again.stdout
    assert running.ending(version) == BAD, "Phoenix goes on trying"
    until("the fault is over", lambda: (view := running.view()) is not None and not view.faults)


def test_a_phoenix_that_hangs_is_gone_past_and_a_router_that_hangs_is_told(running: Story) -> None:
    version = running.begin()
    carrying(running, 20)
    router = running.router_pid()
    os.kill(running.phoenix.pid, signal.SIGSTOP)
    try:
        os.kill(router, signal.SIGSTOP)
        stuck = running.cli("rollout", "abort", NAME, "--timeout", "1s")
        os.kill(router, signal.SIGCONT)
        done = running.cli("rollout", "abort", NAME, "--reason", "hangs")
        assert running.seen().weight == 0
    finally:
        os.kill(router, signal.SIGCONT)
        os.kill(running.phoenix.pid, signal.SIGCONT)
    assert (stuck.returncode, stuck.stdout) == (1, "")
    assert "is latched, the router does not say whether it gets requests" in stuck.stderr
    assert f"the router does not answer (pid {router})" in stuck.stderr
    assert done.returncode == 0, done.stderr
    assert "is latched; the router sends it nothing" in done.stdout
    assert "the traffic object was changed directly" in done.stderr
    assert running.ending(version) == BAD


def test_what_is_said_of_other_words_is_so_at_the_moment_it_is_said(running: Story) -> None:
    version = running.begin()
    carrying(running, 20)
    said = running.cli("rollout", "pause", NAME)
    assert said.returncode == 0, said.stderr
    view = running.view()
    assert view is not None
    assert view.rollout.status.state is State.PAUSED
    assert "the weight stays where it is" in said.stdout
    done = running.cli("rollout", "abort", NAME)
    assert done.returncode == 0, done.stderr
    assert running.ending(version) == BAD
