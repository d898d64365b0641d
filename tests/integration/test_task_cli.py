"""`phoenix task` and the API behind it, against a running Phoenix with its own worker."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from tests.tasks.phoenix import Phoenix

from phoenix_orch.kernel.errors import BadState, NotFound


@pytest.fixture(scope="module")
def phoenix(tmp_path_factory: pytest.TempPathFactory):
    with Phoenix(tmp_path_factory.mktemp("p")) as running:
        yield running


def test_a_task_is_run_and_followed_to_its_end(phoenix: Phoenix) -> None:
    done = phoenix.run("task", "run", "greet", "--follow")
    assert done.returncode == 0
    said = [line[10:] for line in done.stdout.splitlines()]
    assert said == ["[queued]", "[running]", "hello", "password=<masked>", "[succeeded]"]
    failed = phoenix.run("task", "run", "fail", "--follow")
    assert failed.returncode == 1
    assert failed.stdout.splitlines()[-1].endswith("[failed] sh ended with exit status 3")


def test_a_task_is_shown_cancelled_and_retried(phoenix: Phoenix) -> None:
    task = phoenix.json("task", "run", "wait", "--reason", "for a test")["id"]
    assert phoenix.json("task", "run", "wait")["id"] == task
    assert "would be cancelled" in phoenix.run("task", "cancel", task, "--dry-run").stdout
    phoenix.json("task", "cancel", task)
    assert (
        phoenix.run("task", "logs", task, "--follow")
        .stdout.splitlines()[-1]
        .split("] ")[1]
        .startswith("cancelled by ")
    )
    found = phoenix.json("task", "show", task)
    assert (found["state"], found["reason"]) == ("cancelled", "for a test")
    assert phoenix.json("task", "retry", task)["state"] in ("queued", "running")  # a worker may be quicker
    phoenix.json("task", "cancel", task)
    shown = phoenix.run("task", "list", "--kind", "wait").stdout
    assert task in shown
    assert [entry["id"] for entry in phoenix.json("task", "list", "--kind", "wait")] == [task]


def test_bad_words_say_what_there_is(phoenix: Phoenix) -> None:
    done = phoenix.run("task", "run", "gret")
    assert done.returncode == 2
    assert "did you mean 'greet'?" in done.stderr
    done = phoenix.run("task", "run", "greet", "--arg", "n=1")
    assert done.returncode == 2
    assert "takes no arguments" in done.stderr
    with phoenix.client() as client:
        with pytest.raises(NotFound):
            client.task("nothing")
        with pytest.raises(NotFound):
            client.schedule("nothing")
        greeted = client.tasks(kind="greet").items[0]
        with pytest.raises(BadState):
            client.cancel_task(greeted.id)


def test_a_schedule_is_paused_resumed_and_run_by_hand(phoenix: Phoenix) -> None:
    assert [view["name"] for view in phoenix.json("task", "schedule", "list")] == ["audit-prune", "nightly"]
    assert not phoenix.json("task", "schedule", "pause", "nightly", "--dry-run")["paused"]
    assert phoenix.json("task", "schedule", "show", "nightly")["next"] is not None
    assert phoenix.json("task", "schedule", "pause", "nightly")["paused"]
    assert phoenix.json("task", "schedule", "resume", "nightly", "--dry-run")["paused"]
    assert phoenix.json("task", "schedule", "show", "nightly")["next"] is None
    assert not phoenix.json("task", "schedule", "resume", "nightly")["paused"]
    before = phoenix.json("task", "list")
    assert phoenix.json("task", "schedule", "run", "nightly", "--dry-run")["name"] == "nightly"
    assert phoenix.json("task", "list") == before
    task = phoenix.json("task", "schedule", "run", "nightly")["id"]
    assert phoenix.run("task", "logs", task, "--follow").returncode == 0


def test_events_are_streamed_and_go_on_behind_the_last_one(phoenix: Phoenix) -> None:
    task = phoenix.json("task", "run", "greet")["id"]
    events = _events(phoenix.data_dir, task, "")
    assert [event["text"] for event in events if event["kind"] == "log"] == ["hello", "password=<masked>"]
    assert events[-1]["state"] == "succeeded"
    assert _events(phoenix.data_dir, task, events[1]["id"]) == events[2:]


def _events(data_dir: Path, task: str, last: str) -> list[dict[str, Any]]:
    connection = http.client.HTTPConnection("phoenix", timeout=60)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(data_dir / "phoenix.sock"))
    headers = {"Last-Event-ID": last} if last else {}
    connection.request("GET", f"/api/v1/tasks/{task}/events", headers=headers)
    answer = connection.getresponse()
    assert answer.getheader("content-type", "").startswith("text/event-stream")
    text = answer.read().decode()
    connection.close()
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
