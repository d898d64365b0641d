"""What lives and does no work: a router and a store that were stopped; and files of somebody else among
the router's. Each is told of by doctor, mended by Phoenix, and in nobody's way."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import psutil
import pytest
from tests.faults.story import NAME, Story, story, until
from tests.faults.story_cases import BAD

from phoenix_orch.rollout.status import State

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def running() -> Iterator[Story]:
    with story() as made:
        yield made


def stop(made: Story, pid: int) -> None:
    """SIGSTOP, in effect."""
    made.remember()
    os.kill(pid, signal.SIGSTOP)
    until("it is stopped", lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)


def fault_lines(made: Story) -> list[str]:
    return [line for line in made.cli("doctor").stdout.splitlines() if line.startswith("FAULT")]


def carrying(made: Story, weight: int) -> None:
    made.until_view(
        f"{weight} % seen",
        lambda view: (
            view.rollout.status.state is State.PROGRESSING
            and view.seen is not None
            and view.seen.weight == weight
        ),
    )


@pytest.mark.parametrize("text", ["http: [\n", "http: {}\n"], ids=["broken", "valid"])
def test_an_abort_is_obeyed_whatever_lies_beside_the_table(running: Story, text: str) -> None:
    version = running.begin()
    carrying(running, 20)
    theirs = running.data / "router" / "dynamic" / "theirs.yaml"
    theirs.write_text(text)
    assert running.cli("rollout", "abort", NAME).returncode == 0
    until("weight 0 on the data plane", lambda: running.seen().weight == 0, 5.0)
    assert running.ending(version) == BAD
    assert theirs.read_text() == text
    assert fault_lines(running) == []
    theirs.unlink()


def test_an_abort_is_obeyed_though_somebody_replaced_the_table(running: Story) -> None:
    version = running.begin()
    carrying(running, 20)
    (running.data / "router" / "dynamic" / "routes.yaml").write_text("http: [\n")
    assert running.cli("rollout", "abort", NAME).returncode == 0
    until("weight 0 on the data plane", lambda: running.seen().weight == 0, 5.0)
    assert running.ending(version) == BAD
    kept = list((running.data / "router" / "put-aside").iterdir())
    assert [path.read_text() for path in kept] == ["http: [\n"]


@pytest.mark.slow
def test_a_router_that_hangs_is_told_of_and_replaced(running: Story) -> None:
    pid = running.router_pid()
    stop(running, pid)
    assert any(f"does not answer (pid {pid})" in line for line in fault_lines(running))
    until("another router", lambda: not psutil.pid_exists(pid) and running.seen().weight == 0)
    until("users are served", lambda: running.cli("doctor").returncode == 0, 20.0)
    assert "it does not answer and was ended" in running.log(1000)


@pytest.mark.slow
def test_a_store_that_hangs_is_told_of_and_replaced_and_stops_no_abort(running: Story) -> None:
    version = running.begin()
    carrying(running, 20)
    pid = running.valkey_pid()
    stop(running, pid)
    assert any("  store" in line for line in fault_lines(running))
    assert running.cli("rollout", "abort", NAME).returncode == 0
    until("weight 0 on the data plane", lambda: running.seen().weight == 0, 10.0)
    until("another store", lambda: not psutil.pid_exists(pid))
    assert running.ending(version) == BAD
    assert running.cli("doctor").returncode == 0
    assert "it did not answer and was killed" in running.log(1000)


@pytest.mark.slow
def test_doctor_tells_of_a_router_that_hangs_without_phoenix(running: Story) -> None:
    running.kill(running.phoenix.pid)
    pid = running.router_pid()
    stop(running, pid)
    assert any("routing" in line and "does not answer" in line for line in fault_lines(running))
    running.restart()
    assert running.router_pid() != pid
    running.until_nobody_is_lost()
