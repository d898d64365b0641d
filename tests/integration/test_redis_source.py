"""Copies of real servers: alone, with replicas, of a cluster; and what is said of them."""

from __future__ import annotations

import json
import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Timer

import pytest
from tests.redis_server import cluster, filled, redis7, replica_of, serving, until

from phoenix_orch.kernel.errors import BadState, Forbidden, Retryable, Terminal
from phoenix_orch.recovery.redis_address import RedisAddress
from phoenix_orch.recovery.sources.redis import RedisSource, redis_sources
from phoenix_orch.recovery.sources.redis_spec import Prefer, RedisSpec
from phoenix_orch.recovery.sources.replication import Patience


def copied(source: RedisSource) -> tuple[bytes, object]:
    with source.capture() as capture:
        with pytest.raises(BadState):
            capture.facts()
        data = b"".join(iter(lambda: capture.read(65536), b""))
        return data, capture.facts()


def of(address: RedisAddress, **spec: object) -> RedisSource:
    (source,) = redis_sources("cache", address, RedisSpec(address=str(address), **spec))
    assert source.component == "redis/cache"
    return source


@pytest.mark.parametrize("binary", [None, redis7])
def test_a_server_alone_and_what_is_known_of_it(tmp_path, binary):
    with serving(tmp_path / "a", "--requirepass", "hush-hush", binary=binary and binary()) as server:
        client = server.client(password="hush-hush")
        filled(client, 100)
        client.execute_command("SELECT", 3)
        server_3 = server.client(password="hush-hush", db=3)
        server_3.set("a", "b", ex=1000)
        server_3.execute_command(
            "FUNCTION", "LOAD", "#!lua name=l\nredis.register_function('f', function() return 1 end)"
        )
        server_3.execute_command("CONFIG", "SET", "masterauth", "deep-secret")
        server_3.execute_command("ACL", "SETUSER", "anna", "on", ">other-secret", "+@read", "~*")
        before = datetime.now(UTC) - timedelta(seconds=2)
        data, facts = copied(of(RedisAddress(port=server.port, password="hush-hush")))
    assert data[-9] == 0xFF
    assert before <= facts.consistency_point <= datetime.now(UTC)
    assert facts.content["keys"] == 701
    assert facts.content["databases"] == {"0": {"keys": 700, "expires": 100}, "3": {"keys": 1, "expires": 1}}
    assert facts.content["functions"] == 1
    assert facts.measures == ("keys",)
    assert facts.engine["name"] == ("redis" if binary else "valkey")
    assert facts.source["role"] == "master"
    assert len(facts.source["runId"]) == 40
    assert facts.source["settings"]["repl-diskless-sync-delay"] == "0"
    assert any("anna" in user for user in facts.source["users"])
    assert len(facts.replication["id"]) == 40
    told = json.dumps([facts.engine, facts.content, facts.source, facts.replication])
    for secret in ("hush-hush", "deep-secret", "other-secret"):
        assert secret not in told
    assert not any(word.startswith("#") for user in facts.source["users"] for word in user.split())


def test_a_replica_gives_the_copy_where_there_is_one(tmp_path):
    with serving(tmp_path / "a") as primary, replica_of(primary, tmp_path / "b") as replica:
        filled(primary.client(), 50)
        primary.ask("WAIT", 1, 5000)
        until(lambda: primary.client().info("replication")["slave0"]["lag"] <= 1)
        _, facts = copied(of(primary.address))
        assert facts.source["address"] == f"127.0.0.1:{replica.port}"
        assert facts.source["role"] == "replica"
        assert facts.replication["behindBytes"] is not None
        assert "of 1 replicas" in facts.source["chosen"]
        _, facts = copied(of(primary.address, prefer=Prefer.PRIMARY))
        assert facts.source["address"] == f"127.0.0.1:{primary.port}"
        replica.process.kill()
        replica.process.wait()
        _, facts = copied(of(primary.address))
        assert facts.source["address"] == f"127.0.0.1:{primary.port}"
        with (
            pytest.raises(Retryable, match="no replica gives a copy"),
            of(primary.address, prefer=Prefer.ONLY_REPLICA).capture(),
        ):
            pass


def test_the_least_rights_are_enough(tmp_path):
    with serving(tmp_path / "a") as server:
        filled(server.client(), 20)
        server.ask("ACL", "SETUSER", "backup", "reset", "on", ">hush", "+psync", "+replconf", "+ping")
        address = RedisAddress(port=server.port, username="backup", password="hush")
        _, facts = copied(of(address))
        assert facts.source["chosen"] == "its user may not ask INFO"
        assert facts.measures == ()
        assert facts.engine["version"]
        with pytest.raises(Forbidden), of(address, prefer=Prefer.ONLY_REPLICA).capture():
            pass


def test_a_server_that_saves_is_left_in_peace(tmp_path):
    with serving(tmp_path / "a", "--rdb-key-save-delay", "100000") as server:
        filled(server.client(), 100)
        server.ask("BGSAVE")
        (source,) = redis_sources(
            "cache", server.address, RedisSpec(address=str(server.address)), patience=Patience(start=0.6)
        )
        with pytest.raises(Retryable, match="saves its data"), source.capture():
            pass
        server.ask("CONFIG", "SET", "rdb-key-save-delay", 0)
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
        Timer(1.0, os.kill, (int(children), signal.SIGUSR1)).start()
        _, facts = copied(of(server.address))
        assert facts.content["keys"] == 700


def test_a_cluster_is_copied_shard_by_shard(tmp_path):
    with cluster(tmp_path) as nodes:
        for number in range(300):
            slot = nodes[0].ask("CLUSTER", "KEYSLOT", f"k{number}")
            nodes[min(slot // 5461, 2)].ask("SET", f"k{number}", number)
        for node in nodes[:3]:
            node.ask("WAIT", 1, 5000)
        spec = RedisSpec(address=f"127.0.0.1:{nodes[4].port}")
        sources = redis_sources("cache", nodes[4].address, spec, patience=Patience(silence=10))
        assert [source.component for source in sources] == [f"redis/cache.shard{n}" for n in range(3)]
        keys, slots = 0, []
        for source in sources:
            _, facts = copied(source)
            assert facts.source["role"] == "replica"
            assert facts.source["mode"] == "cluster"
            keys += facts.content["keys"]
            slots += facts.content["slots"]
        assert keys == 300
        assert sorted(slots) == [[0, 5460], [5461, 10921], [10922, 16383]]
        nodes[0].ask("CLUSTER", "DELSLOTSRANGE", 100, 120)
        with pytest.raises(Terminal, match="slots 100-120"):
            redis_sources("cache", nodes[0].address, spec)
