"""Releases in which a stable replica is killed -9: the end is the same as without."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.faults import outcomes
from tests.faults.story import Story, story
from tests.faults.story_cases import Kind, Victim, cases, play

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def running() -> Iterator[Story]:
    """One Phoenix for all cases: each finds what the deaths before it have left."""
    with story() as made:
        yield made


@pytest.mark.parametrize(("kind", "phase"), cases(Victim.REPLICA))
def test_the_end_is_the_same(running: Story, kind: Kind, phase: str) -> None:
    outcomes.keep(play(running, Victim.REPLICA, kind, phase).line())
