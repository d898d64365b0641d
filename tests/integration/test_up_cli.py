"""`phoenix up` and the command line against it, as a person uses them; real processes, router and store."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.faults.story import NAME, SPEED, Story, story, until

from phoenix_orch.rollout.status import CommandKind, State

pytestmark = pytest.mark.timeout(300)


LIMITS = {"errorRate": "60%", "latencyP95": "2s"}
PHASES = (
    {"name": "first", "weight": 20, "duration": "6m", "limits": LIMITS},  # twelve seconds to give commands in
    {"name": "full", "weight": 100, "duration": "30s", "limits": LIMITS},
)


@pytest.fixture(scope="module")
def running() -> Iterator[Story]:
    with story(rate=150.0, settings={"rollout": {"phases": PHASES}}) as made:
        yield made


def said(made: Story, *words: str, status: int = 0) -> str:
    """What a command prints; its exit status has to be `status`."""
    done = made.cli(*words)
    assert done.returncode == status, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout if status == 0 else done.stderr


def listed(made: Story, *words: str) -> Any:
    return json.loads(said(made, *words, "-o", "json"))


def test_a_release_from_start_to_explanation(running: Story) -> None:
    watched = running.cli("rollout", "start", NAME, "--version", "two", "--watch")
    assert watched.returncode == 0, watched.stderr
    assert "Promoted" in watched.stdout
    services = listed(running, "service", "list")
    assert [(one["name"], one["version"], one["ready"]) for one in services] == [(NAME, "two", 2)]
    history = listed(running, "rollout", "history", NAME)
    assert history[0]["outcome"] == "promoted"
    assert "two" in said(running, "describe", "rollout", NAME)
    assert said(running, "rollout", "explain", NAME).strip()


def test_a_bad_release_ends_with_status_4_and_says_why(running: Story) -> None:
    done = running.cli(
        "rollout", "start", NAME, "--version", "bad", "--env", "SHOP_FAULT=errors:0.9", "--watch"
    )
    assert done.returncode == 4, done.stdout + done.stderr
    assert "\nRolled back after " in said(running, "rollout", "explain", NAME)
    refused = said(
        running, "rollout", "start", NAME, "--version", "bad", "--env", "SHOP_FAULT=errors:0.9", status=2
    )
    assert "latched" in refused


def test_pause_resume_promote_and_undo(running: Story) -> None:
    before = running.client.rollout(NAME).rollout.status.stable
    version = running.begin()
    running.until_state(State.PROGRESSING)
    running.client.command(NAME, CommandKind.PAUSE)
    running.until_state(State.PAUSED)
    assert "paused" in said(running, "rollout", "pause", NAME, status=2)
    said(running, "rollout", "resume", NAME)
    running.client.command(NAME, CommandKind.PAUSE)
    running.until_state(State.PAUSED)
    said(running, "rollout", "promote", NAME, "--full")
    running.until_state(State.BAKING, State.PROMOTED)
    running.ending(version)
    assert listed(running, "rollout", "status", NAME)["rollout"]["status"]["stable"] != before
    said(running, "rollout", "undo", NAME)
    running.until_view(
        "the revision before is back",
        lambda view: view.rollout.status.stable == before and view.rollout.status.state is State.PROMOTED,
    )


def test_abort_and_retry(running: Story) -> None:
    version = running.begin()
    running.until_state(State.PROGRESSING)
    said(running, "rollout", "abort", NAME, "--reason", "a test")
    assert running.ending(version).state == "RolledBack"
    said(running, "rollout", "retry", NAME)
    running.until_state(State.PROGRESSING)
    said(running, "rollout", "promote", NAME, "--full")
    assert running.ending(version).state == "Promoted"


def test_logs_restart_and_doctor(running: Story) -> None:
    old = {one.pid for one in running.client.service(NAME).workload.instances}  # type: ignore[union-attr]
    said(running, "service", "restart", NAME)

    def replaced() -> bool:
        workload = running.client.service(NAME).workload
        assert workload is not None
        return len(workload.instances) == 2 and not old & {one.pid for one in workload.instances}

    until("both instances are new", replaced)
    said(running, "service", "logs", NAME)
    assert said(running, "doctor").strip()


def test_no_user_saw_any_of_it(running: Story) -> None:
    """Last in the file: over all releases before, nothing failed but what the bad version failed."""
    failures = [failure for failure in running.users.failures_since(0.0) if failure.status != 500]
    assert not failures


def test_metrics_tell_of_it(running: Story) -> None:
    transport = httpx.HTTPTransport(uds=str(running.data / "phoenix.sock"))
    with httpx.Client(transport=transport, base_url="http://phoenix") as http:
        text = http.get("/metrics").text
    found = {
        (one.name, *sorted(one.labels.values())): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }
    assert found["phoenix_releases_total", "promoted"] >= 1
    assert found["phoenix_rollout_state", State.PROMOTED.value, NAME] == 1
    assert found["phoenix_rollout_weight_seen_percent", NAME] == 0
    assert found["phoenix_verdict_timestamp_seconds", NAME] > 0
    components = ("orchestrator", "health-validator", "rollback-controller")
    assert [found["phoenix_leader", component] for component in components] == [1, 1, 1]
    assert found["memory_usage_bytes",] > 0


def test_a_second_phoenix_is_refused(running: Story) -> None:
    again = running.start()
    assert again.wait(30) == 2
    assert "already runs" in running.log(3)
    assert running.answers()


@pytest.mark.slow
def test_ctrl_c_ends_everything_and_the_next_start_needs_no_file() -> None:
    with story() as made:
        version = made.begin()
        made.until_state(State.PROGRESSING)
        made.client.command(NAME, CommandKind.PROMOTE_FULL)
        made.ending(version)
        made.remember()
        made.phoenix.send_signal(signal.SIGINT)
        assert made.phoenix.wait(60) == 130
        assert made.left() == []
        line = made.command("up", "--data-dir", str(made.data), "--speed", f"{SPEED:g}")
        with (made.directory / "phoenix.log").open("ab") as log:
            made.phoenix = subprocess.Popen(line, cwd=made.directory.parent, stdout=log, stderr=log)
        made.adopt(made.phoenix)
        until(
            "it is told again what serves",
            lambda: f"service={NAME}" in made.log(100).partition("] ready ")[2],
        )
        view = made.until_state(State.PROMOTED)
        assert view.versions[view.rollout.status.stable or ""] == version
        assert made.ending(version).instances == (("released", 2),)
