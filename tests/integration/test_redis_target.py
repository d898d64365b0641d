"""A dump goes into servers that run, with replicas, databases, functions, and with both ways of loading."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from collections.abc import Callable

import pytest
from tests.redis_server import (
    Server,
    filled,
    free_port,
    linked,
    redis7,
    replica_of,
    serving,
    surroundings,
    until,
    valkey,
)

from phoenix_orch.kernel.errors import BadState, PhoenixError, Retryable, Terminal
from phoenix_orch.recovery.objects import Writer
from phoenix_orch.recovery.redis_address import RedisAddress
from phoenix_orch.recovery.redis_asking import asking
from phoenix_orch.recovery.restore import feed, redis_target
from phoenix_orch.recovery.restore.redis_preflight import Copy, Weight, blocked, preflight
from phoenix_orch.recovery.restore.redis_target import Listen, NotLoadedError, load, target_of
from phoenix_orch.recovery.sources.replication import replicate


def dump_of(server: Server) -> bytes:
    with replicate(server.address) as stream:
        return stream.read()


def poured(data: bytes, size: int = 65536) -> Callable[[Writer], None]:
    def pour(feed: Writer) -> None:
        for at in range(0, len(data), size):
            feed.write(data[at : at + size])

    return pour


def rich(server: Server) -> None:
    """Several databases, functions, streams with groups."""
    filled(server.client(), 200)
    for number in (1, 7):
        filled(server.client(db=number), 20)
    server.ask("FUNCTION", "LOAD", "#!lua name=l\nredis.register_function('f', function() return 1 end)")


@pytest.mark.parametrize("loading", ["disabled", "on-empty-db", "swapdb"])
@pytest.mark.parametrize("appendonly", ["yes", "no"])
@pytest.mark.parametrize("binary", [None, redis7])
def test_a_target_has_the_same_data_and_keeps_it(tmp_path, loading, appendonly, binary):
    program = binary() if binary else None
    with serving(tmp_path / "a", binary=program) as origin:
        rich(origin)
        data, digest = dump_of(origin), origin.digest()
    options = ("--repl-diskless-load", loading, "--appendonly", appendonly)
    with serving(tmp_path / "b", *options, binary=program) as target:
        filled(target.client(), 30, "old:")
        followed: list[int] = []
        done = load(target.address, poured(data), following=lambda: followed.append(1))
        assert target.digest() == digest
        assert done.loaded == 1400 + 280
        assert done.expired == 0
        assert done.sent == len(data)
        assert followed == [1]
        assert target.client().info("replication")["role"] == "master"
        assert target.ask("FCALL", "f", 0) == 1
        target.ask("SET", "written", "after")
        if appendonly == "yes":
            until(lambda: not target.client().info("persistence")["aof_rewrite_in_progress"])
            digest = target.digest()
            target.ask("CONFIG", "SET", "appendfsync", "always")
            target.ask("SET", "written", "after")
            target.stop()
            with serving(tmp_path / "b", *options, binary=program) as again:
                assert again.digest() == digest


def test_replicas_of_the_target_follow(tmp_path):
    with serving(tmp_path / "a") as origin:
        rich(origin)
        data, digest = dump_of(origin), origin.digest()
    with (
        serving(tmp_path / "b") as target,
        replica_of(target, tmp_path / "c") as one,
        replica_of(target, tmp_path / "d") as two,
    ):
        filled(target.client(), 30, "old:")
        load(target.address, poured(data))
        for replica in (one, two):
            until(lambda replica=replica: replica.digest() == digest, replica.log)
            linked(replica)
        assert target.client().info("replication")["connected_slaves"] == 2


def test_a_target_with_a_password_and_masterauth(tmp_path):
    with serving(tmp_path / "a") as origin:
        filled(origin.client(), 10)
        data, digest = dump_of(origin), origin.digest()
    secret = ("--requirepass", "hush", "--primaryauth", "hush")
    with serving(tmp_path / "b", *secret) as target:
        load(RedisAddress(port=target.port, password="hush"), poured(data))
        assert target.client(password="hush").execute_command("DEBUG", "DIGEST") == digest


def test_a_target_on_a_unix_socket_alone(tmp_path):
    with serving(tmp_path / "a") as origin:
        filled(origin.client(), 10)
        data = dump_of(origin)
    with serving(tmp_path / "b", "--unixsocket", str(tmp_path / "s")):
        done = load(RedisAddress(socket=str(tmp_path / "s")), poured(data))
        assert done.after.keys == 70


@pytest.mark.parametrize("loading", ["disabled", "swapdb"])
def test_a_copy_that_turns_out_damaged_changes_nothing(tmp_path, loading):
    with (
        serving(tmp_path / "b", "--repl-diskless-load", loading) as target,
        serving(tmp_path / "a") as origin,
    ):
        rich(origin)
        filled(target.client(), 30, "old:")
        data, before = dump_of(origin), target.digest()

        def pour(feed: Writer) -> None:
            poured(data)(feed)
            raise Terminal("the last byte is not what was written")

        with pytest.raises(Terminal, match="the last byte"):
            load(target.address, pour)
        assert target.digest() == before
        assert target.client().info("replication")["role"] == "master"
        target.ask("SET", "a", "b")


def test_a_dump_that_the_server_cannot_load_is_told_as_uncertain(tmp_path, monkeypatch):
    """A server ends when it meets a damaged dump: nothing unproven may ever be committed."""
    monkeypatch.setattr(redis_target, "_PROMOTE", 1.0)
    with serving(tmp_path / "b") as target, serving(tmp_path / "a") as origin:
        rich(origin)
        data = bytearray(dump_of(origin))
        data[len(data) // 2] ^= 0xFF
        with pytest.raises(NotLoadedError, match="did not load") as caught:
            load(target.address, poured(bytes(data)))
        if target.process.poll() is None:
            assert target.client().info("replication")["role"] == "master"
        else:
            assert "REPLICAOF NO ONE" in caught.value.remedy


def test_what_the_target_cannot_read_is_never_sent(tmp_path):
    with serving(tmp_path / "b", binary=redis7()) as target, serving(tmp_path / "a") as origin:
        origin.ask("SET", "a", "b")
        data = dump_of(origin)
        target.ask("SET", "old", "data")
        with pytest.raises(Terminal, match="cannot read VALKEY080"):
            load(target.address, poured(data))
        assert target.ask("GET", "old") == "data"
        for other in (b"age-encryption.org/v1\n" * 9, b"REDIS"):
            with pytest.raises(Terminal, match="no dump"):
                load(target.address, poured(other))
        assert target.ask("GET", "old") == "data"
        assert target.client().info("replication")["role"] == "master"


def test_a_replica_is_no_target(tmp_path):
    with (
        serving(tmp_path / "a") as primary,
        replica_of(primary, tmp_path / "b") as replica,
        pytest.raises(BadState, match="is a replica"),
    ):
        load(replica.address, poured(b""))


def test_a_target_that_cannot_reach_us_is_let_go(tmp_path):
    with serving(tmp_path / "b") as target:
        with pytest.raises(Retryable, match=r"has not come to 127\.0\.0\.2"):
            load(target.address, poured(b""), listen=Listen("127.0.0.2", bind="127.0.0.1"), come_within=1.5)
        assert target.client().info("replication")["role"] == "master"
        with pytest.raises(Terminal, match="nothing can listen"):
            load(target.address, poured(b""), listen=Listen("192.0.2.1"))
        assert target.client().info("replication")["role"] == "master"


def test_strangers_get_no_data(tmp_path):
    """Somebody else comes to the door first: from another address, with another port, or with nonsense."""
    with serving(tmp_path / "a") as origin:
        filled(origin.client(), 10)
        data, digest = dump_of(origin), origin.digest()
    with serving(tmp_path / "b") as target:
        got: list[bytes] = []

        def come(port: int, words: bytes, source: str) -> None:
            with socket.create_connection(("127.0.0.1", port), source_address=(source, 0)) as connection:
                connection.settimeout(5)
                connection.sendall(words)
                with contextlib.suppress(ConnectionError):
                    got.append(b"".join(iter(lambda: connection.recv(65536), b"")))

        def strangers(client: object, host: str, port: int) -> None:
            psync = b"PSYNC ? -1\r\n"
            tries = [
                (b"REPLCONF listening-port 1\r\n" + psync, "127.0.0.1"),
                (b"REPLCONF listening-port %d\r\n" % target.port + psync, "127.0.0.9"),
                (b"GET / HTTP/1.1\r\n\r\n*x\r\n", "127.0.0.1"),
                (b"*1\r\n$99999999\r\n", "127.0.0.1"),
            ]
            for words, source in tries:
                threads.append(threading.Thread(target=come, args=(port, words, source)))
                threads[-1].start()
            client.execute_command("REPLICAOF", host, port)

        threads: list[threading.Thread] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(redis_target, "_follow", strangers)
            load(target.address, poured(data))
        for thread in threads:
            thread.join(10)
        assert target.digest() == digest
    assert len(got) <= 4
    assert not any(b"REDIS" in said or b"VALKEY" in said or b"$EOF" in said for said in got)


def test_who_dawdles_at_the_door_does_not_hold_it(monkeypatch):
    """A byte now and then, each in its time."""
    monkeypatch.setattr(feed, "_HANDSHAKE", 0.3)
    with feed.door("127.0.0.1") as door:
        ended = threading.Event()

        def dawdle() -> None:
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", door.port)) as connection,
            ):
                while not ended.wait(0.02):
                    connection.sendall(b"P")

        thread = threading.Thread(target=dawdle)
        thread.start()
        try:
            with (
                pytest.raises(Retryable, match="did not speak as a replica"),
                door.replica(peer="", announces=None, accept=lambda _: None, within=2.0),
            ):
                pytest.fail("nobody asked for data")
        finally:
            ended.set()
            thread.join(10)


# -- preflight of real servers -------------------------------------------------------------------------


def findings(address: RedisAddress, copy: Copy | None = None) -> dict[str, tuple[Weight, str]]:
    with asking(address) as client:
        found = preflight(copy or Copy("REDIS0011", "7.2.4", 10, 1000), target_of(client))
    return {one.check: (one.weight, one.found) for one in found if one.weight is not Weight.OK}


def test_a_good_target_has_nothing_against_it(tmp_path):
    with serving(tmp_path / "a") as server:
        assert findings(server.address) == {}
        server.ask("SET", "a", "b")
        assert findings(server.address)["data"][0] is Weight.WARNS
        with asking(server.address) as client:
            assert not blocked(preflight(Copy(), target_of(client)))


def test_a_user_without_the_right_is_found(tmp_path):
    with serving(tmp_path / "a") as server:
        server.ask("ACL", "SETUSER", "u", "on", ">pw", "+@all", "-replicaof", "-slaveof")
        found = findings(RedisAddress(port=server.port, username="u", password="pw"))
        assert found["rights"][0] is Weight.BLOCKS


def test_a_renamed_command_is_found(tmp_path):
    with serving(tmp_path / "a", "--rename-command", "REPLICAOF", "", binary=redis7()) as server:
        assert findings(server.address)["rights"][0] is Weight.BLOCKS


def test_a_cluster_node_and_a_replica_block(tmp_path):
    with serving(tmp_path / "a", "--cluster-enabled", "yes") as server:
        assert "runs as cluster" in findings(server.address)["mode"][1]
        with pytest.raises(PhoenixError):
            load(server.address, poured(b""))
    with serving(tmp_path / "b") as primary, replica_of(primary, tmp_path / "c") as replica:
        assert findings(replica.address)["role"][0] is Weight.BLOCKS
        assert findings(primary.address)["replicas"][0] is Weight.WARNS


def test_a_sentinel_that_watches_is_found(tmp_path):
    with serving(tmp_path / "a") as server:
        (tmp_path / "s").mkdir()
        config = tmp_path / "s" / "sentinel.conf"
        config.write_text(f"sentinel monitor main 127.0.0.1 {server.port} 1\n")
        command = (
            str(valkey()),
            str(config),
            "--sentinel",
            "--port",
            str(free_port()),
            "--dir",
            str(tmp_path / "s"),
        )
        sentinel = subprocess.Popen(command, env=surroundings(valkey()), stdout=subprocess.DEVNULL)
        try:
            until(lambda: "sentinel" in findings(server.address))
            assert findings(server.address)["sentinel"] == (
                Weight.BLOCKS,
                "1 Sentinels watch it, and would fail over when it follows us",
            )
        finally:
            sentinel.kill()
            sentinel.wait()


def test_settings_that_would_harm_block(tmp_path):
    with serving(tmp_path / "a", "--repl-diskless-load", "flush-before-load", "--maxmemory", "5mb") as server:
        server.ask("SET", "a", "b")
        found = findings(server.address, Copy("REDIS0012", "7.4.0", 10, 50_000_000, ("json",)))
        for check in ("format", "modules", "memory", "old data"):
            assert found[check][0] is Weight.BLOCKS, check
