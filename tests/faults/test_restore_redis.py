"""A restore that dies or is fed damage: the target, and its replicas, have the old data or all of the new."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.recovery_outcomes import seen
from tests.redis_server import Server, filled, linked, replica_of, serving, until

from phoenix_orch.kernel.errors import PhoenixError, Retryable
from phoenix_orch.recovery.objects import Writer
from phoenix_orch.recovery.restore.redis_target import NotReleasedError, alone, load
from phoenix_orch.recovery.sources.replication import replicate

pytestmark = pytest.mark.timeout(240)
REDIS = "A restore of Redis"
ROOT = Path(__file__).parents[2]


@dataclass
class Story:
    """A target with two replicas, and a dump of other data."""

    target: Server
    replicas: tuple[Server, Server]
    dump: bytes
    file: Path
    old: str
    new: str

    def role(self) -> str:
        return str(self.target.client().info("replication")["role"])

    def holds(self, digest: str) -> None:
        """The target now, and its replicas soon."""
        assert self.target.digest() == digest
        for replica in self.replicas:
            until(lambda replica=replica: replica.digest() == digest, replica.log)
            linked(replica)


@contextmanager
def story(folder: Path, loading: str) -> Iterator[Story]:
    with serving(folder / "origin") as origin:
        filled(origin.client(), 400, "new:")
        filled(origin.client(db=3), 30, "new:")
        with replicate(origin.address) as stream:
            dump = stream.read()
        new = origin.digest()
    (folder / "dump.rdb").write_bytes(dump)
    options = ("--appendonly", "yes", "--repl-diskless-load", loading)
    with (
        serving(folder / "target", *options) as target,
        replica_of(target, folder / "one") as one,
        replica_of(target, folder / "two") as two,
    ):
        filled(target.client(), 100, "old:")
        yield Story(target, (one, two), dump, folder / "dump.rdb", target.digest(), new)


@pytest.mark.parametrize("loading", ["disabled", "swapdb"])
def test_killed_at_any_byte_the_target_keeps_its_data(tmp_path, loading):
    with story(tmp_path, loading) as it:
        size = len(it.dump)
        for count in (20, 500, size // 3, size - 9, size - 1, size):
            killed(it, count)
            assert it.target.digest() == it.old, count
            assert it.role() == "slave"  # of nobody: it waits for a person, and takes no writes
            alone(it.target.address)
            assert it.role() == "master"
        it.holds(it.old)
        it.target.ask("SET", "written", "again")
    seen(
        REDIS,
        f"kill -9 (repl-diskless-load {loading})",
        "any of six bytes, the last one too",
        leaves="the old data, no writes taken",
        then="the target takes writes when it is told to; replicas have the old data",
    )


@pytest.mark.parametrize("loading", ["disabled", "swapdb"])
def test_killed_after_the_whole_dump_the_target_has_all_of_it(tmp_path, loading):
    with story(tmp_path, loading) as it:
        killed(it, len(it.dump) + 1)
        until(lambda: it.target.digest() in (it.old, it.new))
        until(lambda: it.target.digest() == it.new, it.target.log)
        alone(it.target.address)
        it.holds(it.new)
    seen(
        REDIS,
        f"kill -9 (repl-diskless-load {loading})",
        "after the whole dump and its end mark",
        leaves="all of the new data",
        then="the target takes writes when it is told to; replicas have the new data",
    )


def killed(it: Story, count: int) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.faults.redis_restorer",
        str(it.target.port),
        str(it.file),
        str(count),
    ]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "stopped\n"
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    until(
        lambda: it.target.client().info("replication")["master_link_status"] == "down" or count > len(it.dump)
    )


class _LostError(PhoenixError):
    pass


def broken(it: Story, at: int, error: PhoenixError) -> Callable[[Writer], None]:
    def pour(feed: Writer) -> None:
        feed.write(it.dump[:at])
        raise error

    return pour


@pytest.mark.parametrize("loading", ["disabled", "swapdb"])
def test_a_store_that_fails_at_any_byte_leaves_the_old_data(tmp_path, loading):
    with story(tmp_path, loading) as it:
        for at in (0, 5, 100, len(it.dump) // 2, len(it.dump)):
            with pytest.raises(Retryable, match="503"):
                load(it.target.address, broken(it, at, Retryable("the store answers 503")))
            assert it.target.digest() == it.old
            assert it.role() == "master"
        it.holds(it.old)
    seen(
        REDIS,
        f"the store answers 503 (repl-diskless-load {loading})",
        "any of five bytes",
        leaves="the old data",
        then="the target takes writes by itself",
    )


def test_a_target_that_dies_while_it_takes_the_data_has_its_old_data_again(tmp_path, monkeypatch):
    with story(tmp_path, "disabled") as it:
        it.target.ask("CONFIG", "SET", "appendfsync", "always")

        def pour(feed: Writer) -> None:
            feed.write(it.dump[: len(it.dump) // 2])
            it.target.process.kill()
            it.target.process.wait()
            for _ in range(100):
                feed.write(bytes(1 << 20))

        monkeypatch.setattr("phoenix_orch.recovery.restore.redis_target._PROMOTE", 0.5)
        with pytest.raises(NotReleasedError) as caught:
            load(it.target.address, pour)
        assert "REPLICAOF NO ONE" in str(caught.value)
        with serving(it.target.directory, "--appendonly", "yes") as again:
            assert again.digest() == it.old
    seen(
        REDIS,
        "kill -9 of the target",
        "half of the dump",
        leaves="the old data, once it is started again",
        then="the error says `REPLICAOF NO ONE`, for when it comes back as a replica",
    )


def test_after_all_these_failures_a_restore_works(tmp_path):
    with story(tmp_path, "disabled") as it:
        killed(it, 700)
        alone(it.target.address)
        load(it.target.address, lambda feed: feed.write(it.dump))
        it.holds(it.new)
