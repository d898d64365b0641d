"""Tasks and idempotency keys of a cluster: of all replicas, and of a store that may be away."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.plane import ControlPlane
from tests.cluster.replicas import Replica, replicas
from tests.cluster.stand import NAME

from phoenix_orch.runtime.valkey_server import ValkeyServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
FILE = """
tasks:
  hello: {{command: [{python}, -c, "print('hello from a task')"]}}
  tick: {{command: [{python}, -c, "print('tick')"], every: 1s}}
  long: {{command: [{python}, -c, "import time; print('begun', flush=True); time.sleep(600)"]}}
"""


def test_tasks_are_run_once_by_whichever_replica_lives(control_plane: ControlPlane, tmp_path: Path) -> None:
    file = tmp_path / "phoenix.yaml"
    file.write_text(FILE.format(python=sys.executable))
    keeper = ValkeyServer(tmp_path / "valkey")
    store = asyncio.run(keeper.ensure()).url
    with replicas(control_plane, tmp_path, store, f"--file={file}") as world:
        one, other = world.replicas
        operator = world.tokens["operator"]

        def task(replica: Replica, task_id: str) -> dict[str, Any]:
            found: dict[str, Any] = replica.call(f"/api/v1/tasks/{task_id}", operator).json()
            return found

        def reaches(task_id: str, state: str, replica: Replica = other) -> None:
            world.until(f"it is {state}", lambda: task(replica, task_id).get("state") == state)

        # asked of one, shown by the other, with the person's name
        refused = one.call("/api/v1/tasks", world.tokens["viewer"], {"kind": "hello"})
        assert refused.status_code == 403
        made = one.call("/api/v1/tasks", operator, {"kind": "hello"})
        assert made.status_code == 202, made.text
        hello = made.json()["id"]
        reaches(hello, "succeeded")
        assert task(other, hello)["actor"] == "system:serviceaccount:shops:operator"
        lines = other.call(f"/api/v1/tasks/{hello}/logs", operator).json()
        assert "hello from a task" in [line["text"] for line in lines]

        # a schedule runs each slot once, with two workers
        def schedule() -> dict[str, Any]:
            found: dict[str, Any] = other.call("/api/v1/schedules/tick", operator).json()
            return found

        world.until("it ran thrice", lambda: schedule()["runs"] >= 3)
        assert other.call("/api/v1/schedules/tick/pause", operator, {}).status_code == 200
        page = one.call("/api/v1/tasks?kind=tick&limit=200", operator).json()["items"]
        assert len(page) == schedule()["runs"]
        assert len({item["slot"] for item in page}) == len(page)

        # the file changes: a new task can be run, of either
        file.write_text(FILE.format(python=sys.executable) + "  more: {command: ['true']}\n")
        for replica in world.replicas:
            kinds = f"/api/v1/task-kinds of {replica.url}"
            world.until(
                kinds,
                lambda replica=replica: (
                    "more" in [kind["kind"] for kind in replica.call("/api/v1/task-kinds", operator).json()]
                ),
            )
        file.write_text("tasks: [")
        assert one.call("/api/v1/tasks", operator, {"kind": "more"}).status_code == 202

        # a key is every replica's
        headers = {"Idempotency-Key": "once"}
        first, again = (
            replica.call("/api/v1/tasks", operator, {"kind": "hello"}, headers=headers)
            for replica in world.replicas
        )
        assert first.json()["id"] == again.json()["id"]
        assert again.headers["idempotent-replayed"] == "true"

        # whose worker dies is run again by the other one
        long = one.call("/api/v1/tasks", operator, {"kind": "long"}).json()["id"]
        reaches(long, "running")
        dying = [
            replica for replica in world.replicas if str(replica.component.pid) in task(one, long)["worker"]
        ]
        (alive,) = [replica for replica in world.replicas if replica not in dying]
        dying[0].component.end(signal.SIGKILL)
        world.until("the other one runs it", lambda: str(alive.component.pid) in task(alive, long)["worker"])
        assert alive.call(f"/api/v1/tasks/{long}/cancel", operator, {}).status_code == 202
        reaches(long, "cancelled", alive)

        # without the store tasks are refused, and an abort with a key is not
        world.until("it leads", lambda: alive.leads(operator))
        begun = alive.call(f"/api/v1/rollouts/{NAME}/start", operator, {"version": "shop:2"})
        assert begun.status_code == 200, begun.text
        world.until("its share is written", lambda: world.stand.weight() == "20")
        asyncio.run(keeper.stop())
        assert alive.call("/api/v1/tasks", operator, {"kind": "hello"}).status_code == 503
        body = {"kind": "abort", "reason": "enough"}
        path = f"/api/v1/rollouts/{NAME}/commands"
        aborted = alive.call(path, operator, body, headers={"Idempotency-Key": "abort"})
        assert aborted.status_code == 202, aborted.text
        assert world.stand.weight() == "0"
        repeated = alive.call(path, operator, body, headers={"Idempotency-Key": "abort"})
        assert repeated.headers["idempotent-replayed"] == "true"
