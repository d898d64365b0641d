"""Every server that can be had: what it gives is read by itself and by each later one, whole and key by key.

What `rdb_versions` says of each pair is what the servers do.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from tests.backup_stage import IDENTITY, stage
from tests.redis_restoring import find, restorer, taken
from tests.redis_server import Server, filled, serving
from tests.redis_servers import RELEASES, Release

from phoenix_orch.kernel.errors import Terminal
from phoenix_orch.recovery.rdb_header import parse
from phoenix_orch.recovery.rdb_walk import Key, Library, walk
from phoenix_orch.recovery.redis_asking import facts_of
from phoenix_orch.recovery.restore.journal import State
from phoenix_orch.recovery.restore.rdb_versions import unreadable
from phoenix_orch.recovery.restore.redis_keys import Conflict, Moved, Selection, chosen, move
from phoenix_orch.recovery.restore.redis_target import load
from phoenix_orch.recovery.restore.slot_owners import owners_of
from phoenix_orch.recovery.sources.replication import replicate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
DATABASES = (0, 3)


def rich(server: Server, release: Release) -> None:
    """Every type and form of a value, as far as that version has it."""
    with server.client() as client:
        filled(client, 60)
        pipe = client.pipeline(transaction=False)
        pipe.set("number", 12345678)
        pipe.set("text", "repetitive " * 500)
        pipe.set("huge", b"\x00\xff" * 700_000)
        pipe.rpush("long", *(f"element {n}" * 9 for n in range(3000)))
        pipe.sadd("many", *(f"member {n}" for n in range(2000)))
        pipe.sadd("numbers", *range(100, 300))
        pipe.hset("wide", mapping={f"field {n}": "v" * n for n in range(600)})
        pipe.zadd("ranked", {f"member {n}": n / 7 for n in range(1000)})
        pipe.zadd("ends", {"low": "-inf", "high": "+inf"})
        pipe.pfadd("guess", *range(5000))
        pipe.setbit("bits", 70_000, 1)
        pipe.geoadd("places", (13.4, 52.5, "here"))
        for n in range(300):
            pipe.xadd("stream", {"n": n, "text": "t" * n}, id=f"{n + 1}-{n}")
        pipe.xgroup_create("stream", "readers", id="0")
        pipe.xreadgroup("readers", "anna", {"stream": ">"}, count=20)
        pipe.xack("stream", "readers", "3-2")
        pipe.xdel("stream", "300-299", "7-6")
        pipe.execute()
    with server.client(db=3) as client:
        filled(client, 7)
    if release.version >= (7, 0):
        server.ask("FUNCTION", "LOAD", "#!lua name=l\nredis.register_function('f', function() return 1 end)")
    if release.version >= ((7, 4) if release.kind == "redis" else (9, 0)):
        for name, fields in (("short", 5), ("tall", 900)):
            server.client().hset(name, mapping={f"f{n}": f"v{n}" for n in range(fields)})
            server.ask("HEXPIRE", name, 70_000, "FIELDS", 2, "f1", "f3")


def by_key(dump: bytes, target: Server) -> Moved:
    """All of it, as `phoenix restore keys` does it for each database."""
    owners, total = owners_of(target.address), Moved()
    for database in DATABASES:
        selection = Selection(database=database, conflict=Conflict.OVERWRITE)
        total += move(chosen(walk(io.BytesIO(dump).read), selection), owners, selection)
    return total


def content(server: Server) -> str:
    """A digest of what clients can read: versions compute DEBUG DIGEST differently."""
    found = hashlib.sha256()
    for database in DATABASES:
        with Redis(port=server.port, db=database) as client:
            for key in sorted(client.scan_iter(count=1000)):
                found.update(repr((database, key, _value(client, key))).encode())
    return found.hexdigest()


def _value(client: Any, key: bytes) -> object:
    match client.type(key):
        case b"string":
            return client.get(key)
        case b"list":
            return client.lrange(key, 0, -1)
        case b"set":
            return sorted(client.smembers(key))
        case b"hash":
            return sorted(client.hgetall(key).items())
        case b"zset":
            return client.zrange(key, 0, -1, withscores=True)
        case b"stream":
            groups = [[*sorted(one.items())[:5]] for one in client.xinfo_groups(key)]
            return client.xrange(key), client.xinfo_stream(key)["last-generated-id"], len(groups)
    raise AssertionError(key)


def ends(server: Server) -> dict[str, object]:
    """Moments that a digest says nothing of."""
    with server.client() as client:
        found: dict[str, object] = {key: client.pttl(key) > 0 for key in sorted(client.scan_iter("ttl:*"))}
        for name in ("short", "tall"):
            if client.exists(name):
                asked = ("HPEXPIRETIME", name, "FIELDS", 3, "f1", "f2", "f3")
                found[name] = client.execute_command(*asked)
        found["pending"] = client.xpending("stream", "readers")
        return found


@pytest.mark.parametrize("origin", RELEASES, ids=lambda one: one.name.replace(" ", "-"))
def test_a_copy_comes_back_in_every_server_that_can_read_it(tmp_path: Path, origin: Release) -> None:
    with serving(tmp_path / "origin", binary=origin.get(), quick=origin.quick) as server:
        rich(server, origin)
        with replicate(server.address) as stream:
            dump = stream.read()
        digest, keys = server.digest(), facts_of(server.address).keys
        holds = (content(server), ends(server))
    header = parse(dump)
    assert header is not None
    told = list(walk(io.BytesIO(dump).read, values=False))
    assert sum(isinstance(one, Key) for one in told) == keys
    assert sum(isinstance(one, Library) for one in told) == (origin.version >= (7, 0))
    tried = 0
    for target in RELEASES:
        with serving(tmp_path / target.name, binary=target.get(), quick=target.quick) as server:
            found = facts_of(server.address)
            server.ask("SET", "old", "data")
            if unreadable(found.server, found.version, header.format):
                with pytest.raises(Terminal, match=r"cannot read|reads formats"):
                    load(server.address, lambda sink: sink.write(dump))
                assert server.ask("GET", "old") == "data"
                assert server.client().dbsize() == 1
                continue
            done = load(server.address, lambda sink: sink.write(dump))
            assert (done.loaded, content(server), ends(server)) == (keys, *holds), target.name
            whole = server.digest()
            assert whole == digest or target is not origin
            server.ask("FLUSHALL")
            assert by_key(dump, server) == Moved(keys, keys), target.name
            assert (server.digest(), content(server), ends(server)) == (whole, *holds), target.name
            tried += 1
    later = [one for one in RELEASES if one.kind == origin.kind and one.version >= origin.version]
    assert tried >= len(later)


@pytest.mark.parametrize(
    "release",
    [one for one in RELEASES if one.name in {"redis 6.2.14", "redis 7.4", "redis 8.2"}],
    ids=lambda one: one.name.replace(" ", "-"),
)
def test_a_whole_restore_proves_the_copy_and_keeps_what_was_there(tmp_path: Path, release: Release) -> None:
    """Also where no server of the package can load the copy."""
    with serving(tmp_path / "server", binary=release.get(), quick=release.quick) as server:
        rich(server, release)
        digest, keys = server.digest(), facts_of(server.address).keys
        backup = taken(stage(tmp_path / "bucket"), server.address)
        server.ask("FLUSHALL")
        server.ask("SET", "newer", "data")
        acting = restorer(tmp_path / "bucket", tmp_path / "journal", (IDENTITY,))
        plan = acting.plan(find(tmp_path / "bucket")(backup.manifest.id), server.address)
        done = acting.run(plan.id, server.address, plan.hash)
        assert (done.state, done.loaded, server.digest()) == (State.DONE, keys, digest)
        assert find(tmp_path / "bucket")(done.safety).before_restore
        walked = any("walked through" in words for words in done.told)
        assert walked == (release.version >= (7, 4))
