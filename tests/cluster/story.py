"""One release from beginning to end, with users: what holds in every such story, whatever else happens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.cluster.serving import Phoenix, until
from tests.cluster.stage import (
    CANARY,
    NAME,
    NOBODY,
    RATE,
    REPLICAS,
    START_SECONDS,
    StableWatch,
    Stage,
)
from tests.faults.story_users import Account, Users


class Story:
    """A stage with Phoenix at work on it, and what its users have seen so far."""

    def __init__(self, stage: Stage, phoenix: Phoenix, users: Users) -> None:
        self._stage = stage
        self._phoenix = phoenix
        self._users = users

    @property
    def account(self) -> Account:
        return self._users.account

    def until(self, what: str, condition: Callable[[], bool], seconds: float) -> None:
        """Wait for it; fail with what there is to know."""
        until(what, condition, seconds, lambda: f"{self._stage.describe()}\n{self._phoenix.tails()}")

    def until_served(self, version: str) -> None:
        """Wait until users are answered by it."""
        self.until(f"users get {version}", lambda: self.account.by_version.get(version, 0) > 0, 120)


@contextmanager
def told(stage: Stage, phoenix: Phoenix, *, fewest: int = REPLICAS) -> Iterator[Story]:
    """Phoenix knows the stage, and what happens in the `with` block is seen by users.

    All the while stable has `fewest` pods wanted and available, and fails no request: users know of no
    failure but the canary's, or of a moment in which it had no pod.
    """
    users = Users(stage.cluster.web_port, RATE, host=stage.host)
    story = Story(stage, phoenix, users)
    story.until("Phoenix knows it", lambda: stage.state() == "Idle", START_SECONDS)
    with StableWatch(stage) as stable, users:
        yield story
    assert stable.fewest() == (fewest, fewest)
    failures = stage.failures(story.account)
    assert failures.keys() <= {CANARY, NOBODY}
    assert failures.total() == len(story.account.failures)


@contextmanager
def taken_back(stage: Stage, phoenix: Phoenix) -> Iterator[Story]:
    """What is released in the `with` block is taken back for good. Nothing of stable is touched, and no
    request fails any more."""
    with told(stage, phoenix) as story:
        before = stage.get("deployment")["spec"]
        yield story
        story.until("it is taken back", lambda: stage.state() == "RolledBack", 400)
        over, answers = time.time(), story.account.by_version["v1"]
        story.until("users go on", lambda: story.account.by_version["v1"] > answers + 2 * RATE, 60)
    late = [failure for failure in story.account.failures if failure.at >= over]
    assert late == [], f"{late}, {stage.failures(story.account)}"
    assert stage.get("deployment")["spec"] == before
    assert (stage.replicas(CANARY), stage.weight()) == (0, "0")
    assert stage.carrier()["annotations"]["phoenix-orch.io/abort"] == stage.status()["cause"]["revision"]
    history = stage.cluster.kubectl("rollout", "history", f"deployment/{NAME}", "-n", stage.namespace)
    assert len(history.strip().splitlines()) == 3, history  # a title, a heading, one revision
