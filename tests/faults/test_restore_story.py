"""A whole restore, from the plan to the last replica; killed at every step; failing where it hurts most."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from tests.backup_stage import IDENTITY, TRUST, stage
from tests.recovery_outcomes import seen
from tests.redis_restoring import SCOPE, find, restorer, taken
from tests.redis_server import Server, filled, replica_of, serving, until

from phoenix_orch.kernel.errors import BadState, NotFound, Outdated, PhoenixError, Terminal
from phoenix_orch.recovery.catalog import Catalog
from phoenix_orch.recovery.errors import Corrupted
from phoenix_orch.recovery.folder_store import FolderStore
from phoenix_orch.recovery.manifest import TriggerKind
from phoenix_orch.recovery.prune import BEFORE_RESTORE
from phoenix_orch.recovery.prune import plan as plan_of
from phoenix_orch.recovery.publish import Published
from phoenix_orch.recovery.redis_address import RedisAddress
from phoenix_orch.recovery.restore import run
from phoenix_orch.recovery.restore.journal import State
from phoenix_orch.recovery.restore.plan import RestorePlan
from phoenix_orch.recovery.restore.redis_target import NotLoadedError
from phoenix_orch.recovery.restore.replication_check import Said
from phoenix_orch.recovery.retention import Limits, Policy
from phoenix_orch.recovery.selecting import select

pytestmark = pytest.mark.timeout(240)
REDIS = "A restore of Redis"
ROOT = Path(__file__).parents[2]


@dataclass
class Story:
    """A server whose old data was copied, and which has other data since."""

    folder: Path
    server: Server
    backup: str
    old: str
    now: str

    def restorer(self, **more: object) -> run.Restorer:
        return restorer(self.folder, self.folder / "journal", (IDENTITY,), **more)

    def role(self) -> str:
        return str(self.server.client().info("replication")["role"])


@contextmanager
def story(folder: Path) -> Iterator[Story]:
    with serving(folder / "server", "--appendonly", "yes") as server:
        filled(server.client(), 60, "good:")
        at = stage(folder)
        backup = taken(at, server.address).manifest.id
        old = server.digest()
        server.ask("FLUSHALL")
        filled(server.client(), 40, "bad:")
        yield Story(folder, server, backup, old, server.digest())


def test_a_restore_from_the_plan_to_the_last_replica(tmp_path):
    with (
        story(tmp_path) as it,
        replica_of(it.server, tmp_path / "r1") as one,
        replica_of(it.server, tmp_path / "r2") as two,
    ):
        told: list[str] = []
        acting = it.restorer(tell=told.append)
        plan = acting.plan(find(tmp_path)(it.backup), it.server.address)
        assert plan.safety
        assert not plan.blocked
        assert plan.replicas == 2
        assert it.server.digest() == it.now
        done = acting.run(plan.id, it.server.address, plan.hash)
        assert done.state is State.DONE
        assert it.server.digest() == it.old
        for replica in (one, two):
            until(lambda replica=replica: replica.digest() == it.old)
        assert done.digest == it.old  # as the rehearsal had it
        words = "\n".join(told)
        assert "safety copy" in words
        assert "2 of 2 replicas confirmed it" in words
        assert it.server.ask("KEYS", "phoenix:*") == []
        safety = find(tmp_path)(done.safety)
        assert safety.manifest.trigger.kind.value == "pre-restore"
        with pytest.raises(BadState, match="is done"):
            acting.run(plan.id, it.server.address, plan.hash)
        # and back again, from the safety copy
        back = acting.plan(safety, it.server.address)
        acting.run(back.id, it.server.address, back.hash)
        assert it.server.digest() == it.now


def test_without_the_hash_of_the_plan_nothing_happens(tmp_path):
    with story(tmp_path) as it:
        acting = it.restorer()
        plan = acting.plan(find(tmp_path)(it.backup), it.server.address)
        for wrong in ("", "yes", plan.hash[:-1], plan.id):
            with pytest.raises(BadState, match="is not the hash"):
                acting.run(plan.id, it.server.address, wrong)
        with pytest.raises(NotFound):
            acting.run("nothing", it.server.address, plan.hash)
        assert it.server.digest() == it.now


def test_a_plan_does_not_hold_for_another_server(tmp_path):
    with story(tmp_path) as it:
        acting = it.restorer()
        plan = acting.plan(find(tmp_path)(it.backup), it.server.address)
        it.server.stop()
        with serving(tmp_path / "server", "--appendonly", "yes", "--port", str(it.server.port)) as again:
            again.port = it.server.port
            until(lambda: _answers(again))
            with pytest.raises(Outdated):
                acting.run(plan.id, again.address, plan.hash)


def _answers(server: Server) -> bool:
    try:
        return bool(server.ask("PING"))
    except Exception:  # noqa: BLE001 - whatever keeps it from answering
        return False


@pytest.mark.parametrize("state", ["copying", "staging", "cutting", "checking"])
def test_killed_at_any_step_it_goes_on_or_is_aborted(tmp_path, state):
    with story(tmp_path) as it:
        acting = it.restorer()
        plan = acting.plan(find(tmp_path)(it.backup), it.server.address)
        killed(it, state, plan)
        found = {it.now: "the old data", it.old: "all of the new"}[it.server.digest()]
        assert acting.journal.read(plan.id).state.value == state
        assert not acting.journal.running(plan.id)
        done = acting.run(plan.id, it.server.address, plan.hash)
        assert done.state is State.DONE
        assert it.server.digest() == it.old
        assert it.role() == "master"

        other = acting.plan(find(tmp_path)(it.backup), it.server.address)
        killed(it, state, other)
        assert acting.abort(other.id, it.server.address).state is State.ABORTED
        assert it.role() == "master"
        assert it.server.digest() == it.old
        seen(
            REDIS,
            "kill -9",
            state,
            leaves=found,
            then="the same command goes on to the end; `abort` makes the target take writes again",
        )


def test_killed_while_the_safety_copy_goes_back_it_goes_back(tmp_path):
    with story(tmp_path) as it:
        acting = it.restorer()
        plan = acting.plan(find(tmp_path)(it.backup), it.server.address)
        killed(it, "returning", plan)
        assert acting.journal.read(plan.id).state is State.RETURNING
        assert it.server.digest() == it.old  # what was restored, and found wrong
        with pytest.raises(Terminal, match="has its old data again"):
            acting.run(plan.id, it.server.address, plan.hash)
        entry = acting.journal.read(plan.id)
        assert entry.state is State.UNDONE
        assert "loaded 1 key" in entry.message
        assert it.server.digest() == it.now
        assert it.role() == "master"
        with pytest.raises(BadState, match="is undone"):
            acting.run(plan.id, it.server.address, plan.hash)
        seen(
            REDIS,
            "kill -9",
            "returning",
            leaves="what was restored, and found wrong",
            then="the same command brings the old data back, and says that the restore had failed",
        )


def killed(it: Story, state: str, plan: RestorePlan) -> None:
    identity = it.folder / "identity"
    identity.write_text(f"{IDENTITY.key}\n")
    command = [sys.executable, "-m", "tests.redis_restoring", str(it.folder), state, plan.id, plan.hash]
    done = subprocess.run(
        [*command, str(it.server.port), str(identity)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -9, done.stderr


def test_a_damaged_copy_is_found_before_the_target_is_touched(tmp_path):
    with story(tmp_path) as it:
        acting = it.restorer()
        backup = find(tmp_path)(it.backup)
        plan = acting.plan(backup, it.server.address)
        data = tmp_path / backup.manifest.stream.key
        content = bytearray(data.read_bytes())
        content[len(content) // 2] ^= 1
        data.write_bytes(content)
        with pytest.raises(Corrupted):
            acting.run(plan.id, it.server.address, plan.hash)
        assert acting.journal.read(plan.id).state is State.FAILED
        assert it.server.digest() == it.now
        assert it.role() == "master"
        seen(
            REDIS,
            "a changed byte of the copy",
            "before the cut-over",
            leaves="the old data",
            then="it has failed; another copy",
        )


def test_damage_during_the_cut_over_leaves_the_target_as_it_was(tmp_path, monkeypatch):
    with story(tmp_path) as it:
        acting = it.restorer()
        backup = find(tmp_path)(it.backup)
        plan = acting.plan(backup, it.server.address)
        staged = run.Restorer._staged

        def then_damaged(self, entry, copy):
            entry = staged(self, entry, copy)
            data = tmp_path / backup.manifest.stream.key
            data.write_bytes(data.read_bytes()[:-20])
            return entry

        monkeypatch.setattr(run.Restorer, "_staged", then_damaged)
        with pytest.raises(PhoenixError):
            acting.run(plan.id, it.server.address, plan.hash)
        entry = acting.journal.read(plan.id)
        assert entry.state is State.FAILED
        assert "the target was not changed" in entry.message
        assert it.server.digest() == it.now
        assert it.role() == "master"
        seen(
            REDIS,
            "the end of the copy is cut off",
            "during the cut-over",
            leaves="the old data",
            then="it has failed; another copy",
        )


WORDS = {
    "not loaded": "the target does not load the copy",
    "miscounted": "the target has another number of keys than the copy",
    "replicas": "a replica does not come back",
}


@pytest.mark.parametrize("fault", WORDS)
def test_what_fails_after_the_cut_over_is_put_back(tmp_path, monkeypatch, fault):
    with story(tmp_path) as it:
        acting = it.restorer()
        plan = acting.plan(find(tmp_path)(it.backup), it.server.address)
        real = run.Restorer._load
        calls: list[int] = []

        def load(self, *named):
            done = real(self, *named)
            calls.append(1)
            if len(calls) == 1 and fault == "not loaded":
                raise NotLoadedError("the target did not load it", remedy="see its log")
            return done

        def miscounted(self, entry, done):
            raise Terminal("the target loaded 1 key")

        monkeypatch.setattr(run.Restorer, "_load", load)
        if fault == "miscounted":
            monkeypatch.setattr(run.Restorer, "_counted", miscounted)
        if fault == "replicas":
            monkeypatch.setattr(run, "check", lambda *_, **__: (Said(False, "a replica is missing"),))
        with pytest.raises(Terminal):
            acting.run(plan.id, it.server.address, plan.hash)
        assert acting.journal.read(plan.id).state is State.UNDONE
        assert it.server.digest() == it.now
        assert it.role() == "master"
        seen(REDIS, WORDS[fault], "after the cut-over", leaves="the old data, put back", then="it is undone")


def test_a_target_that_was_empty_needs_no_safety_copy(tmp_path):
    with story(tmp_path) as it:
        it.server.ask("FLUSHALL")
        acting = it.restorer(keep_safe=None)
        plan = acting.plan(find(tmp_path)(it.backup), it.server.address)
        assert not plan.safety
        assert acting.run(plan.id, it.server.address, plan.hash).state is State.DONE
        assert it.server.digest() == it.old


def test_without_a_safety_copy_live_data_is_not_written_over(tmp_path):
    with story(tmp_path) as it:
        acting = it.restorer(keep_safe=None)
        plan = acting.plan(find(tmp_path)(it.backup), it.server.address)
        with pytest.raises(BadState, match="no safety copy"):
            acting.run(plan.id, it.server.address, plan.hash)
        assert it.server.digest() == it.now
        dead = acting.plan(find(tmp_path)(it.backup), it.server.address, dead=True)
        assert dead.hash != plan.hash
        acting.run(dead.id, it.server.address, dead.hash)
        assert it.server.digest() == it.old


def test_two_plans_for_one_server_are_not_carried_out_at_once(tmp_path):
    with story(tmp_path) as it:
        refused: list[str] = []

        def other_run(address: RedisAddress) -> Published:
            with pytest.raises(BadState, match="another process is at a restore into") as error:
                acting.run(second.id, it.server.address, second.hash)
            refused.append(error.value.message)
            return taken(stage(tmp_path), address, TriggerKind.PRE_RESTORE)

        acting = it.restorer(keep_safe=other_run)
        first, second = (acting.plan(find(tmp_path)(it.backup), it.server.address) for _ in range(2))
        assert acting.run(first.id, it.server.address, first.hash).state is State.DONE
        assert len(refused) == 1
        assert it.server.digest() == it.old
        assert acting.journal.read(second.id).state is State.PLANNED


def test_what_a_restore_wrote_over_is_kept_and_never_taken_for_the_newest(tmp_path):
    with story(tmp_path) as it:
        filled(it.server.client(), 100, "worse:")  # it is no smaller, so it looks as good as any
        acting = it.restorer()
        plan = acting.plan(find(tmp_path)(it.backup), it.server.address)
        safety = acting.run(plan.id, it.server.address, plan.hash).safety
    view = Catalog(FolderStore(tmp_path), TRUST).read(SCOPE)
    there = {one.id: one for one in view.backups}
    assert there[safety].good
    assert there[safety].at >= there[it.backup].at
    after = there[safety].manifest.time.consistency_point + timedelta(hours=1)
    assert find(tmp_path)("latest").id == it.backup
    assert select(view.backups, as_of=after).id == it.backup
    assert find(tmp_path)(safety).id == safety  # by its name a person gets it
    assert view.newest_good is not None
    assert view.newest_good.id == it.backup

    now = there[safety].at
    policy = Policy(hourly=1, daily=0, weekly=0, last=0)
    kept = {one.id: one.keep for one in plan_of(view, policy, Limits(), now, now).decisions}
    assert kept == {safety: True, it.backup: True}
    later = now + BEFORE_RESTORE
    kept = {one.id: one.keep for one in plan_of(view, policy, Limits(), later, later).decisions}
    assert kept == {safety: False, it.backup: True}
