"""The audit log of a cluster: one chain of all replicas, without which nothing but an abort is done."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from tests.cluster.plane import ControlPlane
from tests.cluster.replicas import NAMESPACE, Replica, Replicas, a_keeper, a_store, replicas
from tests.cluster.stand import NAME

from phoenix_orch.orchestrator.acts import PEOPLE, SEEN_ONLY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def phoenix(world: Replicas, store: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A command of somebody who reaches the store."""
    more = ["--kubernetes", f"--namespace={NAMESPACE}", f"--kubeconfig={world.stand.cluster.kubeconfig}"]
    return subprocess.run(
        [sys.executable, "-m", "phoenix_orch", "audit", *words, *more, f"--store={store}"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NO_PROXY": "*"},
    )


def records(replica: Replica, token: str, what: str) -> list[dict[str, Any]]:
    answer = replica.call(f"/api/v1/audit?limit=1000&action={what}", token)
    found: list[dict[str, Any]] = answer.json()["records"] if answer.status_code == 200 else []
    return found


def acts(replica: Replica, token: str) -> list[dict[str, Any]]:
    return [one for one in records(replica, token, "rollout.*") if one["event"]]


def test_what_phoenix_does_by_itself_is_there_once_whichever_leader_is_killed(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    with (
        a_store(tmp_path / "valkey") as store,
        replicas(control_plane, tmp_path, store) as world,
    ):
        operator = world.tokens["operator"]
        path = f"/api/v1/rollouts/{NAME}"

        def events() -> list[str]:
            """Ids of the acts, as the log of events has them."""
            found: Any = redis.Redis.from_url(store).xrange(f"phoenix:{NAMESPACE}:events:{NAME}")
            told = [(key.decode(), json.loads(fields[b"json"])) for key, fields in found]
            return [f"{NAME}:{key}" for key, event in told if event["reason"] not in SEEN_ONLY | PEOPLE]

        def all_told(replica: Replica) -> bool:
            return [one["event"] for one in acts(replica, operator)] == events() != []

        def leader() -> Replica:
            world.until("one leads", lambda: any(one.leads(operator) for one in alive))
            return next(one for one in alive if one.leads(operator))

        alive = list(world.replicas)
        first = leader()
        (other,) = [one for one in alive if one is not first]
        begun = other.call(f"{path}/start", operator, {"version": "shop:2", "changeCause": "newer"})
        assert begun.status_code == 200, begun.text
        world.until("its share is written", lambda: world.stand.weight() == "20")
        first.component.end(signal.SIGKILL)  # wherever it is with its records
        alive.remove(first)
        assert world.word(other, "promote-full").status_code == 202
        world.until_state("Promoted")
        world.until("all of it is recorded", lambda: all_told(other))

        # a leader that comes back, and one that is killed in the middle of a rollback
        first.component.start()
        alive.append(first)
        world.until("it answers", lambda: first.answers)
        again = other.call(f"{path}/start", operator, {"version": "shop:3", "changeCause": "newest"})
        assert again.status_code == 200, again.text
        world.until("its share is written", lambda: world.stand.weight() == "20")
        second = leader()
        assert world.word(second, "abort", "enough").status_code == 202
        second.component.end(signal.SIGKILL)
        alive.remove(second)
        (left,) = alive
        world.until_state("RolledBack")
        world.until("all of it is recorded", lambda: all_told(left))
        told = acts(left, operator)
        assert {one["actor"] for one in told} >= {"phoenix"}
        assert {"rollout.begin", "rollout.progress", "rollout.end", "rollout.taken-back"} <= {
            one["action"] for one in told
        }
        assert {one["after"]["weight"] for one in told if one["action"] == "rollout.progress"} == {20}
        verified = phoenix(world, store, "verify", "-o", "json")
        assert json.loads(verified.stdout)["holds"], verified.stdout

        # one that is deleted while nobody leads takes nothing with it
        left.component.end(signal.SIGKILL)
        last = events()
        world.stand.cluster.kubectl("delete", "rollout.phoenix-orch.io", NAME, "-n", NAMESPACE)
        left.component.start()
        world.until("it answers", lambda: left.answers)
        world.until("its log is swept", lambda: not events())
        assert [one["event"] for one in acts(left, operator)][: len(last)] == last


def test_whoever_changes_something_at_any_replica_is_in_one_chain(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    with contextlib.ExitStack() as stack:
        keeper = stack.enter_context(a_keeper(tmp_path / "valkey"))
        store = asyncio.run(keeper.ensure()).url
        world = stack.enter_context(replicas(control_plane, tmp_path, store))
        one, other = world.replicas
        operator = world.tokens["operator"]
        actor = f"system:serviceaccount:{NAMESPACE}:operator"
        world.until("one leads", lambda: any(each.leads(operator) for each in world.replicas))

        def state() -> str:
            found = one.call(f"/api/v1/rollouts/{NAME}", operator).json()
            return str(found["rollout"]["status"]["state"])

        world.until("it is idle", lambda: state() == "Idle")

        # what is asked of one is read at the other
        would = {"version": "shop:2", "dryRun": True}
        assert one.call(f"/api/v1/rollouts/{NAME}/start", operator, would).status_code == 200
        assert [one for one in records(other, operator, "*") if one["actor"] != "phoenix"] == []
        body = {"version": "shop:2", "changeCause": "newer"}
        assert one.call(f"/api/v1/rollouts/{NAME}/start", operator, body).status_code == 200
        asked, done = records(other, operator, "rollout.start")
        assert (asked["outcome"], done["outcome"], done["asked"]) == ("asked", "done", asked["seq"])
        assert {asked["actor"], done["actor"]} == {actor}
        assert (asked["target"], asked["reason"]) == (f"rollout/{NAME}", "newer")
        assert asked["before"]["state"] == "Idle"
        assert asked["source"] == "127.0.0.1"

        # both at once
        def refused(replica: Replica) -> int:
            return replica.call("/api/v1/tasks/none/cancel", operator, {}).status_code

        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(refused, world.replicas * 10)) == {404}
        world.until("all are recorded", lambda: len(records(one, operator, "task.cancel")) == 40)
        world.until("its share is written", lambda: world.stand.weight() == "20")

        # the store is away: a word that is audited first is refused, an abort is done
        asyncio.run(keeper.stop())
        resumed = world.word(one, "promote")
        assert resumed.status_code == 503, resumed.text
        assert "audit log" in resumed.json()["detail"] or "store" in resumed.json()["detail"]
        aborted = world.word(other, "abort", "enough")
        assert aborted.status_code == 202, aborted.text
        assert world.stand.weight() == "0"
        assert asyncio.run(keeper.ensure()).url == store
        world.until("it is recorded", lambda: len(records(one, operator, "rollout.abort")) == 2)
        assert records(one, operator, "rollout.abort")[0]["reason"] == "enough"

        # a replica that is killed leaves a chain that holds, and the other one goes on with it
        one.component.end(signal.SIGKILL)
        assert other.call("/api/v1/schedules/audit-prune/run", operator, {}).status_code == 202
        verified = phoenix(world, store, "verify", "-o", "json")
        assert verified.returncode == 0, verified.stderr
        said = json.loads(verified.stdout)
        assert said["holds"]
        assert said["records"] >= 46
        listed = phoenix(world, store, "list", "--action", "rollout.abort")
        assert listed.stdout.count("enough") >= 1, listed.stderr
        exported = phoenix(world, store, "export")
        assert len(exported.stdout.splitlines()) >= said["records"]
        assert operator not in exported.stdout
        assert phoenix(world, "redis://127.0.0.1:1/0", "list").returncode != 0
