"""Servers that are full, stopped, older or newer: a restore ends, and leaves old data or all of the new."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import OutOfMemoryError
from tests.backup_stage import IDENTITY, SIGNER, stage
from tests.integration.test_redis_runbook import COMMANDS, Night
from tests.redis_restoring import COMPONENT, find, restorer, taken
from tests.redis_server import Server, filled, redis7, serving

from phoenix_orch.kernel.errors import BadState, PhoenixError, Retryable
from phoenix_orch.orchestrator.redis_restore import How, RedisRestore
from phoenix_orch.recovery import redis_asking
from phoenix_orch.recovery.folder_store import FolderStore
from phoenix_orch.recovery.manifest import Trigger, TriggerKind
from phoenix_orch.recovery.restore import feed, redis_target
from phoenix_orch.recovery.restore.journal import State
from phoenix_orch.recovery.restore.redis_keys import Conflict, Selection
from phoenix_orch.recovery.restore.run import Restorer
from phoenix_orch.recovery.sources.redis import RedisSource
from phoenix_orch.recovery.sources.redis_spec import Prefer, RedisSpec
from phoenix_orch.recovery.sources.replication import Patience, ReplicationStream

pytestmark = pytest.mark.timeout(180)
FULL = ("--maxmemory-policy", "noeviction")
NOISE = os.urandom(200_000)


def fill_up(server: Server) -> None:
    """Until it takes no more."""
    with server.client() as client, contextlib.suppress(OutOfMemoryError):
        for number in range(10_000):
            client.set(f"filler:{number}", "x" * 50_000)
    with pytest.raises(OutOfMemoryError):
        any(not server.ask("SET", f"small:{number}", "x" * 1000) for number in range(10_000))


def how_to(folder: Path, server: Server) -> How:
    (folder / "key").write_text(f"{IDENTITY.key}\n")
    return How(
        storage=str(folder / "bucket"),
        identity=str(folder / "key"),
        signed_by=(SIGNER.public,),
        component=COMPONENT,
        target=str(server.address),
    )


# -- memory ----------------------------------------------------------------------------------------------


def test_a_full_target_takes_a_copy_that_fits_and_is_told_where_it_does_not(tmp_path: Path) -> None:
    with serving(tmp_path / "origin") as origin:
        filled(origin.client(), 40)
        small, digest = taken(stage(tmp_path / "bucket"), origin.address).manifest.id, origin.digest()
        for number in range(400):
            origin.client().set(f"big:{number}", os.urandom(50_000))
        large = taken(stage(tmp_path / "bucket"), origin.address).manifest.id
    with serving(tmp_path / "target", "--maxmemory", "12mb", *FULL) as target:
        fill_up(target)
        full = target.digest()
        acting = restorer(tmp_path / "bucket", tmp_path / "journal", (IDENTITY,))
        plan = acting.plan(find(tmp_path / "bucket")(large), target.address)
        (block,) = plan.blocked
        assert (block.check, "CONFIG SET maxmemory" in block.remedy) == ("memory", True)
        with pytest.raises(BadState, match="maxmemory is 12,582,912"):
            acting.run(plan.id, target.address, plan.hash)
        assert target.digest() == full
        plan = acting.plan(find(tmp_path / "bucket")(small), target.address)
        done = acting.run(plan.id, target.address, plan.hash)
        assert (done.state, target.digest()) == (State.DONE, digest)
        assert find(tmp_path / "bucket")(done.safety).good


def test_a_full_target_refuses_single_keys_and_says_what_to_do(tmp_path: Path) -> None:
    with serving(tmp_path / "origin") as origin:
        origin.client().mset({f"user:{number}": "x" * 1000 for number in range(50)})
        taken(stage(tmp_path / "bucket"), origin.address)
    with serving(tmp_path / "target", "--maxmemory", "6mb", *FULL) as target:
        fill_up(target)
        before = target.digest()
        restores = RedisRestore(tmp_path / "data", {}, by="test", tell=lambda _: None)
        how, selection = how_to(tmp_path, target), Selection("user:*", conflict=Conflict.SKIP)
        counted = restores.keys(how, "latest", None, selection, "")
        assert counted.restored == 50
        with pytest.raises(Retryable, match="has no memory left for writes") as caught:
            restores.keys(how, "latest", None, selection, counted.hash)
        assert "CONFIG SET maxmemory" in caught.value.remedy
        assert target.digest() == before
        target.ask("CONFIG", "SET", "maxmemory", "0")
        counted = restores.keys(how, "latest", None, selection, "")
        assert restores.keys(how, "latest", None, selection, counted.hash).restored == 50


def test_a_full_source_gives_a_copy(tmp_path: Path) -> None:
    with serving(tmp_path / "origin", "--maxmemory", "6mb", *FULL) as origin:
        fill_up(origin)
        digest, backup = origin.digest(), taken(stage(tmp_path / "bucket"), origin.address)
    with serving(tmp_path / "target") as target:
        acting = restorer(tmp_path / "bucket", tmp_path / "journal", (IDENTITY,))
        plan = acting.plan(find(tmp_path / "bucket")(backup.manifest.id), target.address)
        acting.run(plan.id, target.address, plan.hash)
        assert target.digest() == digest


# -- stopped ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def stopped(server: Server) -> Iterator[None]:
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.process.pid, signal.SIGCONT)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits that are a minute or more for real."""
    monkeypatch.setattr(feed, "_STALL", 1.0)
    monkeypatch.setattr(redis_target, "_PROMOTE", 1.0)
    monkeypatch.setitem(redis_asking.asking.__wrapped__.__kwdefaults__, "timeout", 1.0)


@contextlib.contextmanager
def two(folder: Path) -> Iterator[tuple[Server, Restorer, str, str]]:
    """A target with old data, what restores into it, a plan, and the digest of the copy."""
    with serving(folder / "origin") as origin:
        filled(origin.client(), 40)
        for number in range(100):
            origin.client().set(f"noise:{number}", NOISE[number:])  # more than the line itself holds
        backup, digest = taken(stage(folder / "bucket"), origin.address), origin.digest()
    with serving(folder / "target") as target:
        filled(target.client(), 5, "old:")
        acting = restorer(folder / "bucket", folder / "journal", (IDENTITY,))
        plan = acting.plan(find(folder / "bucket")(backup.manifest.id), target.address)
        yield target, acting, plan.id, digest


def cutting(acting: Restorer, plan: str) -> bool:
    """Whether it is the target that takes the copy, and not a rehearsal."""
    return acting.journal.read(plan).state is State.CUTTING


def pour_stopping(
    target: Server, monkeypatch: pytest.MonkeyPatch, cutting: Callable[[], bool], stack: contextlib.ExitStack
) -> None:
    """The target stops when it has got a part of the copy."""
    real = feed.Feed.write

    def write(self: feed.Feed, data: bytes, /) -> int:
        done = real(self, data)
        if self.sent >= 1_000_000 and cutting() and not stack_used:
            stack_used.append(1)
            stack.enter_context(stopped(target))
        return done

    stack_used: list[int] = []
    monkeypatch.setattr(feed.Feed, "write", write)


@pytest.mark.usefixtures("impatient")
def test_a_target_that_stops_in_the_middle_keeps_its_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with two(tmp_path) as (target, acting, plan, digest):
        before, hash_ = target.digest(), acting.journal.read(plan).plan.hash
        with contextlib.ExitStack() as stack:
            with monkeypatch.context() as patch:
                pour_stopping(target, patch, lambda: cutting(acting, plan), stack)
                with pytest.raises(PhoenixError, match="does not take it") as caught:
                    acting.run(plan, target.address, hash_)
            assert "could not be made a primary again" in caught.value.message
            assert "REPLICAOF NO ONE" in caught.value.remedy
            entry = acting.journal.read(plan)
            assert entry.state is State.CUTTING  # told as not over: it may take no writes
            assert "could not be made a primary again" in entry.message
        ended = acting.abort(plan, target.address)
        assert (ended.state, target.digest()) == (State.ABORTED, before)
        assert target.client().info("replication")["role"] == "master"
        target.ask("SET", "written", "after")
        again = acting.plan(find(tmp_path / "bucket")(acting.journal.read(plan).plan.backup), target.address)
        assert acting.run(again.id, target.address, again.hash).state is State.DONE
        assert target.digest() == digest


@pytest.mark.usefixtures("impatient")
def test_after_a_stop_the_same_restore_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with two(tmp_path) as (target, acting, plan, digest):
        hash_ = acting.journal.read(plan).plan.hash
        with contextlib.ExitStack() as stack, monkeypatch.context() as patch:
            pour_stopping(target, patch, lambda: cutting(acting, plan), stack)
            with pytest.raises(PhoenixError):
                acting.run(plan, target.address, hash_)
        done = acting.run(plan, target.address, hash_)
        assert (done.state, target.digest()) == (State.DONE, digest)


@pytest.mark.usefixtures("impatient")
def test_a_target_that_stops_when_it_has_everything_gets_its_old_data_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with two(tmp_path) as (target, acting, plan, _):
        before, hash_ = target.digest(), acting.journal.read(plan).plan.hash
        hasty = replace(acting, load_within=1.0)
        with contextlib.ExitStack() as stack:
            real = feed.Feed.commit

            def commit(self: feed.Feed) -> None:
                if cutting(acting, plan):
                    stack.enter_context(stopped(target))
                real(self)

            with monkeypatch.context() as patch:
                patch.setattr(feed.Feed, "commit", commit)
                with pytest.raises(PhoenixError):
                    hasty.run(plan, target.address, hash_)
            entry = acting.journal.read(plan)
            assert entry.state is State.RETURNING
            assert "has not loaded" in entry.message
        with pytest.raises(PhoenixError, match="has its old data again"):
            acting.run(plan, target.address, hash_)
        assert acting.journal.read(plan).state is State.UNDONE
        assert target.digest() == before
        assert target.client().info("replication")["role"] == "master"


@pytest.mark.usefixtures("impatient")
def test_a_target_that_is_stopped_beforehand_is_not_touched(tmp_path: Path) -> None:
    with two(tmp_path) as (target, acting, plan, _):
        before, hash_ = target.digest(), acting.journal.read(plan).plan.hash
        with stopped(target), pytest.raises(Retryable, match="does not answer in time"):
            acting.run(plan, target.address, hash_)
        assert acting.journal.read(plan).state is State.PLANNED
        assert target.digest() == before


def test_a_source_that_stops_in_the_middle_gives_no_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = stage(tmp_path / "bucket")
    with serving(tmp_path / "origin") as origin:
        for number in range(100):
            origin.client().set(f"noise:{number}", NOISE[number:])
        digest = origin.digest()
        with contextlib.ExitStack() as stack:
            real = ReplicationStream.read
            reads: list[int] = []

            def read(self: ReplicationStream, size: int = -1, /) -> bytes:
                reads.append(size)
                if len(reads) == 20:
                    stack.enter_context(stopped(origin))
                return real(self, 4096)

            with monkeypatch.context() as patch:
                patch.setattr(ReplicationStream, "read", read)
                spec = RedisSpec(address=str(origin.address), prefer=Prefer.PRIMARY)
                hasty = RedisSource(COMPONENT, origin.address, spec, patience=Patience(silence=1.0))
                trigger = Trigger(kind=TriggerKind.MANUAL, actor="test")
                with pytest.raises(Retryable):
                    at.publisher().publish("local", "default", hasty, trigger)
        assert [one.name for one in (tmp_path / "bucket" / "v1").rglob("*") if one.is_file()] == []
        assert not list((tmp_path / "bucket" / ".tmp").glob("*"))
        assert origin.digest() == digest
        (tmp_path / "bucket" / "locks").rename(tmp_path / "locks")
        assert taken(at, origin.address).look.passed


# -- older and newer -------------------------------------------------------------------------------------


def test_a_plan_tells_whether_the_server_reads_the_copy(tmp_path: Path) -> None:
    """An old dump goes into a newer server, and a new one into no older one; nothing is sent there."""
    with serving(tmp_path / "old", binary=redis7()) as old, serving(tmp_path / "new") as new:
        for server, name in ((old, "of-old"), (new, "of-new")):
            filled(server.client(), 20)
            taken(stage(tmp_path / name), server.address)
            (tmp_path / name / "locks").rename(tmp_path / f"{name}-locks")
        digest = {name: server.digest() for name, server in (("old", old), ("new", new))}
        new.ask("SET", "newer", "data")

        def night(target: Server, bucket: str) -> Night:
            folder = tmp_path / f"night-{bucket}"
            folder.mkdir()
            made = Night(folder, target)
            made.named["/mnt/backups"] = str(tmp_path / bucket)
            return made

        refused = night(old, "of-new").types(COMMANDS[0], "--signed-by", SIGNER.public, code=1)
        assert re.search(r"blocks\s+format\s+redis 7\.0\.\d+ cannot read VALKEY080", refused)
        assert re.search(r"first: restore into Valkey 9\.1\.\d+, or newer of the same kind", refused)
        assert "do it:" not in refused
        assert old.digest() == digest["old"]
        there = night(new, "of-old")
        said = there.types(COMMANDS[0], "--signed-by", SIGNER.public)
        assert re.search(r"ok\s+format\s+valkey 9\.\S+ reads REDIS0010", said)
        run = re.search(r"do it: (.*)", said)
        assert run is not None
        there.types(run[1])
        assert new.client().dbsize() == 140
        assert new.ask("GET", "newer") is None


# -- the safety copy -------------------------------------------------------------------------------------


def test_the_safety_copy_lets_the_target_go_before_a_slow_storage_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes through the spool: while the storage takes nothing, the target is done with it."""
    with serving(tmp_path / "server") as server:
        filled(server.client(), 20)
        taken(stage(tmp_path / "bucket"), server.address)
        (tmp_path / "bucket" / "locks").rename(tmp_path / "locks")
        good = server.digest()
        for number in range(150):
            server.client().set(f"noise:{number}", NOISE[number:])  # more than sockets hold
        bad = server.digest()
        waited: list[bool] = []
        real = FolderStore.writer

        @contextlib.contextmanager
        def slow(self: FolderStore, key: str, *, estimate: int = 0) -> Iterator[object]:
            with real(self, key, estimate=estimate) as sink:
                yield _Slow(sink, server, waited)

        monkeypatch.setattr(FolderStore, "writer", slow)
        restores = RedisRestore(tmp_path / "data", {}, by="test", tell=lambda _: None)
        plan = restores.plan(how_to(tmp_path, server), "latest", None, dead=False)
        done = restores.run(plan.id, plan.hash)
        assert waited == [True]
        assert (done.state, server.digest()) == (State.DONE, good)
        assert not list((tmp_path / "data").rglob("spool/*"))
        monkeypatch.undo()
        again = restores.plan(how_to(tmp_path, server), done.safety, None, dead=True)
        restores.run(again.id, again.hash)
        assert server.digest() == bad


class _Slow:
    """Takes its first bytes when the server has nobody left who copies it."""

    def __init__(self, sink: Any, server: Server, waited: list[bool]) -> None:
        self._sink, self._server, self._waited = sink, server, waited

    def write(self, data: bytes, /) -> int:
        if not self._waited:
            give_up = time.monotonic() + 60
            while copying := bool(self._server.client().client_list(_type="replica")):
                if time.monotonic() > give_up:
                    break
                time.sleep(0.05)
            self._waited.append(not copying)
        return int(self._sink.write(data))
