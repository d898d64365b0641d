"""The same data comes back: every type, TTLs, databases, functions, groups of readers, TTLs of fields; into a
server that lives, with replicas, past compression and encryption."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from redis import Redis
from tests.backup_stage import IDENTITY, stage
from tests.redis_restoring import find, restorer, taken
from tests.redis_server import Server, replica_of, serving, until

from phoenix_orch.recovery.restore.journal import State

FUNCTION = "#!lua name=sums\nredis.register_function('add', function(k, a) return a[1] + a[2] end)"
DATABASES = (0, 3, 9)
BATCH = 1000


def fill(server: Server, count: int) -> None:
    """So many keys of seven types in three databases; a third of them with a TTL."""
    for number, database in enumerate(DATABASES):
        with server.client(db=database) as client:
            first = count * number // len(DATABASES)
            last = count * (number + 1) // len(DATABASES)
            for start in range(first, last, BATCH):
                _batch(client, range(start, min(last, start + BATCH)))
    server.ask("FUNCTION", "LOAD", FUNCTION)


def _batch(client: Redis, numbers: range) -> None:
    pipe = client.pipeline(transaction=False)
    for n in numbers:
        text = f"{n}:{hashlib.sha256(str(n).encode()).hexdigest() * (1 + n % 3)}"
        match n % 8:
            case 0:
                pipe.set(f"s{n}", text)
            case 1:
                pipe.set(f"i{n}", n * n)
            case 2:
                pipe.hset(f"h{n}", mapping={f"f{i}": f"{n * i}" for i in range(1 + n % 9)})
                if n % 3 == 2:
                    pipe.execute_command("HEXPIRE", f"h{n}", 90_000 + n % 1000, "FIELDS", 1, "f0")
            case 3:
                pipe.rpush(f"l{n}", *(f"{n}-{i}" for i in range(1 + n % 11)))
            case 4:
                pipe.sadd(f"e{n}", *((n + i) if n % 5 else f"m{n + i}" for i in range(1 + n % 13)))
            case 5:
                pipe.zadd(f"z{n}", {f"m{i}": (n + i) / 7 for i in range(1 + n % 7)})
            case 6:
                pipe.xadd(f"x{n}", {"n": n, "text": text[:20]}, id=f"{n + 1}-1")
                pipe.xadd(f"x{n}", {"n": n}, id=f"{n + 1}-2")
                if n % 16 == 6:
                    pipe.xgroup_create(f"x{n}", "readers", id="0")
                    pipe.xreadgroup("readers", "anna", {f"x{n}": ">"}, count=1)
            case 7:
                pipe.pfadd(f"p{n}", *range(n % 6 + 1))
        if n % 3 == 0:
            pipe.expire(f"{'sihlezxp'[n % 8]}{n}", 80_000 + n % 5000)
    pipe.execute()


def ttls(server: Server) -> dict[str, int]:
    """Moments of expiry, of which a digest knows nothing: of some keys, and of one field each."""
    found: dict[str, int] = {}
    with server.client() as client:
        for key in client.scan_iter("*", count=1000):
            if int(key[1:]) % 50 < 3:
                found[key] = client.pexpiretime(key)
            if key.startswith("h") and int(key[1:]) % 48 == 2:
                found[f"{key}.f0"] = client.execute_command("HPEXPIRETIME", key, "FIELDS", 1, "f0")[0]
    return found


@pytest.mark.parametrize(
    "count",
    [20_000, pytest.param(1_000_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])],
)
def test_the_same_data_comes_back_into_a_live_server_with_replicas(tmp_path: Path, count: int):
    with serving(tmp_path / "origin") as origin:
        fill(origin, count)
        digest, expected = origin.digest(), ttls(origin)
        keys = origin.client().info("keyspace")
        at = stage(tmp_path / "bucket")
        backup = taken(at, origin.address)
        assert backup.manifest.content["keys"] == count
        assert backup.manifest.content["functions"] == 1
    assert len(expected) > 100
    assert sum(moment > 0 for moment in expected.values()) > 30
    with (
        serving(tmp_path / "target", "--appendonly", "yes") as target,
        replica_of(target, tmp_path / "one") as one,
        replica_of(target, tmp_path / "two") as two,
    ):
        target.ask("SET", "stale", "data")
        acting = restorer(tmp_path / "bucket", tmp_path / "journal", (IDENTITY,))
        plan = acting.plan(find(tmp_path / "bucket")(backup.manifest.id), target.address)
        done = acting.run(plan.id, target.address, plan.hash)
        assert done.state is State.DONE
        assert done.loaded == count
        for server in (target, one, two):
            until(lambda server=server: server.digest() == digest, server.log, within=120)
            assert server.client().info("keyspace").keys() == keys.keys()
            assert ttls(server) == expected
            assert server.ask("FUNCTION", "LIST")[0]["library_name"] == "sums"
        assert target.ask("FCALL", "add", 0, 2, 3) == 5
        pending = target.client().xpending_range("x6", "readers", "-", "+", 10)
        assert [one["consumer"] for one in pending] == ["anna"]
