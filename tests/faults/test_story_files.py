"""State files damaged while Phoenix is dead in the middle of a release: an error that says what to do, or
recovery; never a wrong action."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.faults import outcomes
from tests.faults.story import Story, story
from tests.faults.story_cases import GOOD, Outcome

from phoenix_orch.rollout.status import State

pytestmark = pytest.mark.timeout(300)

RECOVERED = (
    "services/web/instances.json",
    "router/dynamic/routes.yaml",
    "router/copies/routes.yaml",
    "router/router.json",
    "valkey/valkey.json",
    "applied.json",
    "phoenix.json",
)
QUICK = ("services/web/instances.json", "router/dynamic/routes.yaml")
CUTS = {"half": 0.5, "empty": 0.0}


@pytest.fixture(scope="module")
def running() -> Iterator[Story]:
    with story() as made:
        yield made


def killed_at_60(made: Story) -> tuple[str, float]:
    """A good release, and Phoenix dead in the middle of it: the version, and when."""
    version = made.begin()
    made.until_view(
        "60 %",
        lambda view: view.rollout.status.state is State.PROGRESSING and view.rollout.status.weight == 60,
    )
    return version, made.kill(made.phoenix.pid)


def cut(path: Path, share: float) -> None:
    os.truncate(path, int(path.stat().st_size * share))


CASES = [
    pytest.param(
        file,
        how,
        id=f"{file}-{how}",
        marks=() if file in QUICK and how == "half" else pytest.mark.slow,
    )
    for file in RECOVERED
    for how in CUTS
]


@pytest.mark.parametrize(("file", "how"), CASES)
def test_a_damaged_file_is_recovered_from(running: Story, file: str, how: str) -> None:
    version, at = killed_at_60(running)
    cut(running.data / file, CUTS[how])
    running.restart()
    assert running.ending(version) == GOOD
    running.until_nobody_is_lost()
    failures = running.users.failures_since(at)
    last = max((failure.at - at for failure in failures), default=0.0)
    outcomes.keep(
        Outcome(f"Phoenix, {file} {how}", "good", "step 2", GOOD.state, len(failures), round(last, 1)).line()
    )
    assert not failures


@pytest.mark.parametrize("how", ["half", pytest.param("empty", marks=pytest.mark.slow)])
def test_a_damaged_clock_is_refused_and_the_remedy_helps(running: Story, how: str) -> None:
    """Guessing the time line would change what every stored moment means."""
    version, at = killed_at_60(running)
    clock = running.data / "clock.json"
    whole = clock.read_bytes()
    cut(clock, CUTS[how])
    refused = running.start()
    assert refused.wait(30) == 2
    said = running.log(3)
    assert "clock.json cannot be read" in said
    assert "what to do: " in said
    assert "Traceback" not in running.log(1000)
    assert running.seen().weight == 60
    clock.write_bytes(whole)
    running.restart()
    assert running.ending(version) == GOOD
    assert not running.users.failures_since(at)
    outcomes.keep(Outcome(f"Phoenix, clock.json {how}", "good", "step 2", "refused", 0, 0.0).line())


def test_the_store_loses_the_unfinished_end_of_its_file(running: Story) -> None:
    version, at = killed_at_60(running)
    running.kill(running.valkey_pid())
    log = max((running.data / "valkey" / "appendonlydir").glob("*.incr.aof"))
    os.truncate(log, log.stat().st_size - 7)
    running.restart()
    assert running.ending(version) == GOOD
    running.until_nobody_is_lost()
    failures = running.users.failures_since(at)
    assert not failures
    outcomes.keep(Outcome("Phoenix and Valkey, its file cut", "good", "step 2", GOOD.state, 0, 0.0).line())
