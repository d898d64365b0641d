"""A cluster is restored key by key: into itself, into one of other shards, into a server alone, and back."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.cluster import ClusterNode, RedisCluster
from tests.backup_stage import IDENTITY, SIGNER, stage
from tests.redis_server import Server, cluster, filled, serving, until

from phoenix_orch.kernel.errors import BadState, Invalid, Outdated, Terminal
from phoenix_orch.orchestrator.redis_restore import How, RedisRestore
from phoenix_orch.recovery.manifest import Trigger, TriggerKind
from phoenix_orch.recovery.restore import cluster_run
from phoenix_orch.recovery.restore.journal import Entry, Journal, State
from phoenix_orch.recovery.restore.redis_keys import Selection
from phoenix_orch.recovery.sources.redis import redis_sources
from phoenix_orch.recovery.sources.redis_spec import RedisSpec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
LIBRARY = "#!lua name=sums\nredis.register_function('two', function() return 2 end)"
KEYS = 120


def client(nodes: list[Server]) -> RedisCluster:
    return RedisCluster(startup_nodes=[ClusterNode("127.0.0.1", nodes[0].port)], decode_responses=True)


def write(nodes: list[Server], prefix: str, count: int) -> None:
    with client(nodes) as into:
        for number in range(count):
            into.set(f"{prefix}:{number}", f"value {number}" * 5)
            into.hset(f"{prefix}:hash:{number}", mapping={"a": number, "b": "x" * number})
            into.zadd(f"{prefix}:{{tag}}:{number}", {"m": number}, nx=True)
            if number % 3 == 0:
                into.expire(f"{prefix}:{number}", 50_000)


DATABASE = hashlib.sha1(hashlib.sha1(bytes(4)).digest()).digest()
"""What DEBUG DIGEST mixes in once for database 0 of each server."""


def digest(servers: list[Server]) -> int:
    """Of all keys, wherever they are: those of keys are added up so that their order says nothing."""
    found = 0
    for server in servers:
        found ^= int(server.digest(), 16) ^ int.from_bytes(DATABASE, "big")
    return found


class Place:
    """A cluster of three shards with replicas, its backups, and who restores."""

    def __init__(self, folder: Path, nodes: list[Server]) -> None:
        self.folder, self.nodes, self.primaries = folder, nodes, nodes[:3]
        write(nodes, "good", KEYS)
        for node in self.primaries:
            node.ask("FUNCTION", "LOAD", "REPLACE", LIBRARY)
        self.digest = digest(self.primaries)
        at = stage(folder / "bucket")
        spec = RedisSpec(address=f"127.0.0.1:{nodes[0].port}", shards=3)
        for source in redis_sources("cache", nodes[0].address, spec):
            trigger = Trigger(kind=TriggerKind.MANUAL, actor="test")
            assert at.publisher().publish("local", "default", source, trigger) is not None
        shutil.rmtree(folder / "bucket" / "locks")  # of a fake lease
        (folder / "key").write_text(f"{IDENTITY.key}\n")

    def how(self, server: Server, component: str = "redis/cache") -> How:
        return How(
            storage=str(self.folder / "bucket"),
            identity=str(self.folder / "key"),
            signed_by=(SIGNER.public,),
            component=component,
            target=f"127.0.0.1:{server.port}",
        )

    def restores(self, name: str = "a") -> RedisRestore:
        self.told: list[str] = []
        return RedisRestore(self.folder / name, os.environ, by="test", tell=self.told.append)

    def spoil(self) -> int:
        """Change, remove and add keys; the digest of what is there then."""
        with client(self.nodes) as into:
            for number in range(0, KEYS, 2):
                into.delete(f"good:{number}")
                into.set(f"good:hash:{number}", "another type")
        write(self.nodes, "bad", 40)
        for node in self.primaries:
            node.ask("FUNCTION", "FLUSH")
        return digest(self.primaries)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("cluster")
    with cluster(folder, shards=3, replicas=1) as nodes:
        yield Place(folder, nodes)


def test_a_cluster_has_its_data_again_and_its_replicas_too(place: Place) -> None:
    spoilt = place.spoil()
    assert spoilt != place.digest
    restores = place.restores()
    plan = restores.plan(place.how(place.nodes[1]), "latest", None, dead=False)
    assert not plan.blocked
    assert len(plan.copies) == len(plan.nodes) == 3
    assert plan.replicas == 3
    assert restores.look(plan.id).hash == plan.hash
    assert digest(place.primaries) == spoilt
    done = restores.run(plan.id, plan.hash)
    assert done.state is State.DONE
    assert digest(place.primaries) == place.digest
    for primary, replica in zip(place.primaries, place.nodes[3:], strict=True):
        until(lambda primary=primary, replica=replica: replica.digest() == primary.digest(), replica.log)
        assert primary.ask("FCALL", "two", 0) == 2
    assert done.loaded == 3 * KEYS
    assert len(done.safety.split(",")) == 3
    with client(place.nodes) as into:
        assert 0 < into.ttl("good:0") <= 50_000


def test_what_fails_brings_the_old_data_back(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    old = place.spoil()

    def lost(*_: object) -> None:
        raise Terminal("keys are not there")

    monkeypatch.setattr(cluster_run, "looked_for", lost)
    restores = place.restores("b")
    plan = restores.plan(place.how(place.nodes[0]), "latest", None, dead=False)
    with pytest.raises(Terminal, match="keys are not there"):
        restores.run(plan.id, plan.hash)
    assert restores.journal.read(plan.id).state is State.UNDONE
    assert digest(place.primaries) == old


@pytest.mark.parametrize("state", ["copying", "cutting", "returning"])
def test_a_restore_that_is_killed_is_ended_by_typing_it_again(
    place: Place, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = place.spoil()
    name = f"killed-{state}"
    plan = place.restores(name).plan(place.how(place.nodes[0]), "latest", None, dead=False)
    killed(place, name, plan.id, plan.hash, state)
    assert place.restores(name).journal.read(plan.id).state.value == state
    other = place.restores("elsewhere")
    found = other.plan(place.how(place.nodes[0]), "latest", None, dead=False)
    with pytest.raises(BadState, match="another restore into this server"):
        other.run(found.id, found.hash)
    again = place.restores(name)
    if state == "returning":
        with pytest.raises(Terminal, match="has its old data again"):
            again.run(plan.id, plan.hash)
        assert digest(place.primaries) == old
        return
    assert again.run(plan.id, plan.hash).state is State.DONE
    assert digest(place.primaries) == place.digest


class _Dying(Journal):
    state = ""

    def write(self, entry: Entry) -> Entry:
        super().write(entry)
        if entry.state.value == self.state:
            os.kill(os.getpid(), signal.SIGKILL)
        return entry


def killed(place: Place, name: str, plan: str, hash_: str, state: str) -> None:
    """A process that carries the plan out and ends when its journal says so."""
    child = os.fork()
    if child == 0:
        try:
            if state == "returning":
                cluster_run.looked_for = _lost  # type: ignore[assignment]
            restores = place.restores(name)
            restores.journal = _Dying(place.folder / name / "restores")
            _Dying.state = state
            restores.run(plan, hash_)
        finally:
            os._exit(1)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])


def _lost(*_: object) -> None:
    raise Terminal("keys are not there")


def test_a_cluster_of_another_size_and_a_server_alone_take_it(place: Place, tmp_path: Path) -> None:
    with cluster(tmp_path / "two", shards=2, replicas=0) as nodes:
        restores = place.restores("c")
        plan = restores.plan(place.how(nodes[0]), "latest", None, dead=False)
        assert (len(plan.copies), len(plan.nodes)) == (3, 2)
        restores.run(plan.id, plan.hash)
        assert digest(nodes) == place.digest
    with serving(tmp_path / "alone") as server:
        server.ask("SET", "old", "data")
        restores = place.restores("d")
        plan = restores.plan(place.how(server), "latest", None, dead=True)
        restores.run(plan.id, plan.hash)
        assert digest([server]) == place.digest
        assert server.ask("FCALL", "two", 0) == 2


def test_one_shard_changes_its_own_slots_alone(place: Place) -> None:
    place.spoil()
    before = [int(node.digest(), 16) for node in place.primaries]
    restores = place.restores("e")
    plan = restores.plan(place.how(place.nodes[0], "redis/cache.shard1"), "latest", None, dead=False)
    restores.run(plan.id, plan.hash)
    after = [int(node.digest(), 16) for node in place.primaries]
    assert after[0] == before[0]
    assert after[1] != before[1]
    assert after[2] == before[2]


def test_keys_by_pattern_go_to_their_primaries(place: Place) -> None:
    place.spoil()
    restores = place.restores("f")
    counted = restores.keys(place.how(place.nodes[2]), "latest", None, Selection("good:[0-9]*"), "")
    assert not counted.done
    assert counted.matched == KEYS
    assert counted.restored == KEYS // 2
    done = restores.keys(place.how(place.nodes[2]), "latest", None, Selection("good:[0-9]*"), counted.hash)
    assert done.done
    with client(place.nodes) as into:
        assert all(into.exists(f"good:{number}") for number in range(KEYS))
        assert into.exists("bad:1")


def test_what_does_not_fit_is_told_before_anything_changes(place: Place, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="a copy of each of its 3 shards"):
        place.restores("g").plan(place.how(place.nodes[0]), "01", None, dead=False)
    with serving(tmp_path / "many") as server:
        filled(server.client(db=5), 5)
        at = stage(tmp_path / "bucket")
        (source,) = redis_sources("cache", server.address, RedisSpec(address=str(server.address)))
        trigger = Trigger(kind=TriggerKind.MANUAL, actor="test")
        assert at.publisher().publish("local", "default", source, trigger) is not None
    how = place.how(place.nodes[0]).model_copy(update={"storage": str(tmp_path / "bucket")})
    plan = place.restores("h").plan(how, "latest", None, dead=False)
    assert [look.check for look in plan.blocked] == ["databases"]
    with pytest.raises(BadState, match="cannot take it"):
        place.restores("h").run(plan.id, plan.hash)
    restores = place.restores("i")
    plan = restores.plan(place.how(place.nodes[0]), "latest", None, dead=False)
    replica = place.nodes[3]
    replica.ask("CLUSTER", "FAILOVER")
    until(lambda: replica.client().info("replication")["role"] == "master", replica.log)
    until(lambda: place.primaries[0].client().info("replication")["role"] == "slave", replica.log)
    with pytest.raises(Outdated, match="another than when the plan was made"):
        restores.run(plan.id, plan.hash)
