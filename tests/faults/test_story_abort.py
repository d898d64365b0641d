"""Taking back when next to nothing lives: by hand with only the router, and by standbys without Phoenix."""

from __future__ import annotations

import os
import time

import pytest
from tests.faults import outcomes
from tests.faults.story import NAME, Story, story, until
from tests.faults.story_cases import BAD, Outcome

from phoenix_orch.rollout.status import State
from phoenix_orch.runtime.users import name_of

pytestmark = pytest.mark.timeout(300)


def carrying(made: Story, weight: int) -> None:
    """Wait until the canary is seen to carry the weight."""
    made.until_view(
        f"{weight} % seen",
        lambda view: (
            view.rollout.status.state is State.PROGRESSING
            and view.seen is not None
            and view.seen.weight == weight
        ),
    )


def kept(made: Story, victims: str, release: str, phase: str, at: float) -> Outcome:
    """The outcome, which costs no request that the bad version did not fail itself."""
    failures = [failure for failure in made.users.failures_since(at) if failure.status != 500]
    last = max((failure.at - at for failure in failures), default=0.0)
    outcome = Outcome(victims, release, phase, BAD.state, len(failures), round(last, 1))
    outcomes.keep(outcome.line())
    assert outcome.failed == 0, failures
    return outcome


def test_a_person_aborts_with_only_the_router_alive() -> None:
    with story() as made:
        version = made.begin()
        carrying(made, 60)
        at = made.kill(made.phoenix.pid)
        made.kill(made.valkey_pid())
        done = made.cli("rollout", "abort", NAME, "--reason", "users complain")
        assert done.returncode == 0, done.stderr
        until("weight 0 on the data plane", lambda: made.seen().weight == 0, 3.0)
        assert not made.answers()
        made.restart()
        assert made.ending(version) == BAD
        cause = made.release(1)[0].cause
        assert cause is not None
        assert (cause.trigger, cause.reason) == ("person", "aborted: users complain")
        assert cause.actor == name_of(os.getuid())
        assert cause.weight == 60
        assert [event.actor for event in made.events() if event.reason == "AbortedByHand"] == [cause.actor]
        made.until_nobody_is_lost()
        kept(made, "Phoenix and Valkey", "aborted by hand", "step 2", at)


@pytest.mark.slow
def test_standbys_take_a_bad_canary_back_without_phoenix() -> None:
    """The judge waits for more requests than come before Phoenix is killed: it is a standby that judges."""
    with story(settings={"policy": {"minRequests": 80}}) as made:
        standbys = [made.start("serve", part) for part in ("health-validator", "rollback-controller")]
        until("both stand by", lambda: made.log(1000).count("standing by") == 2)
        version = made.begin("errors:0.9")
        carrying(made, 20)
        at = made.kill(made.phoenix.pid)
        until("weight 0 on the data plane", lambda: made.seen().weight == 0, 20.0)
        assert not made.answers()
        assert all(standby.poll() is None for standby in standbys)
        traffic = made.traffic()
        assert traffic.canary is not None
        assert traffic.aborted == (traffic.canary.revision,)
        taken = time.time() - at
        made.restart()
        assert made.ending(version) == BAD
        causes = [line.cause for line in made.release(1)]
        assert [cause.trigger for cause in causes if cause] == ["verdict"], causes
        made.until_nobody_is_lost()
        kept(made, "Phoenix, standbys alive", "bad", "step 1", at)
        assert taken < 15.0


@pytest.mark.slow
def test_standbys_follow_one_another_and_end_in_order() -> None:
    with story() as made:
        first, second = (made.start("serve", "rollback-controller") for _ in range(2))
        until("both stand by", lambda: made.log(1000).count("standing by") == 2)
        made.kill(made.phoenix.pid)
        until("one works", lambda: made.log(1000).count("working") == 3)  # two parts of Phoenix, one standby
        first.terminate()
        second.terminate()
        assert first.wait(20) == 0
        assert second.wait(20) == 0
        made.restart()
        version = made.begin("crash:8")
        assert made.ending(version) == BAD
