"""Who gives a copy, and when none may be asked for."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from phoenix_orch.kernel.errors import Retryable
from phoenix_orch.recovery.redis_facts import RedisFacts, Replica, from_info, shown_settings, shown_user
from phoenix_orch.recovery.sources.redis_choice import choose, fork_memory, obstacle
from phoenix_orch.recovery.sources.redis_shards import Shard, read, unserved
from phoenix_orch.recovery.sources.redis_spec import Prefer, RedisSpec, address_of, place

LAG = timedelta(seconds=60)
PRIMARY = RedisFacts(
    "valkey",
    "9.1.2",
    "standalone",
    "master",
    "r" * 40,
    replication_id="a" * 40,
    offset=1000,
    used_memory=1000,
    resident=1200,
    system_memory=10_000,
)
REPLICA = replace(
    PRIMARY, role="slave", offset=900, primary=("p", 6379), link_up=True, silence=1, run_id="s" * 40
)
A, B = ("a", 6379), ("b", 6379)


def test_the_replica_that_lacks_least_gives_the_copy():
    found = choose(PRIMARY, {A: REPLICA, B: replace(REPLICA, offset=990)}, Prefer.REPLICA, LAG)
    assert (found.place, found.behind) == (B, 10)
    assert choose(PRIMARY, {A: replace(REPLICA, offset=2000)}, Prefer.REPLICA, LAG).behind == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"link_up": False}, "has no link"),
        ({"silence": 61}, "for 61 s"),
        ({"loading": True}, "is loading"),
        ({"role": "master"}, "is no replica"),
        ({"replication_id": "b" * 40}, "follows another primary"),
    ],
)
def test_a_replica_that_is_unfit_is_passed_over_and_told(change, words):
    found = choose(PRIMARY, {A: replace(REPLICA, **change)}, Prefer.REPLICA, LAG)
    assert found.place is None
    assert words in found.why
    with pytest.raises(Retryable, match=words):
        choose(PRIMARY, {A: replace(REPLICA, **change)}, Prefer.ONLY_REPLICA, LAG)


def test_a_replica_that_does_not_answer_is_passed_over():
    found = choose(PRIMARY, {A: Retryable("closed"), B: REPLICA}, Prefer.REPLICA, LAG)
    assert found.place == B


def test_a_replica_that_is_named_gives_it_while_its_link_is_up():
    assert choose(REPLICA, {}, Prefer.REPLICA, LAG).place is None
    with pytest.raises(Retryable, match="no link"):
        choose(replace(REPLICA, link_up=False), {}, Prefer.REPLICA, LAG)
    assert choose(replace(REPLICA, link_up=False), {}, Prefer.PRIMARY, LAG).place is None


def test_no_second_fork_and_none_without_memory():
    assert obstacle(PRIMARY, check_memory=True) is None
    for change in ({"loading": True}, {"saving": True}, {"rewriting": True}):
        assert isinstance(obstacle(replace(PRIMARY, **change), check_memory=False), Retryable)
    tight = replace(PRIMARY, system_memory=1600)
    assert fork_memory(tight) == 500
    found = obstacle(tight, check_memory=True)
    assert found is not None
    assert "500 bytes" in found.message
    assert "400 are left" in found.message
    assert obstacle(tight, check_memory=False) is None
    assert obstacle(replace(tight, last_cow=200), check_memory=True) is None
    assert obstacle(replace(tight, system_memory=0), check_memory=True) is None


def test_what_info_says_is_read():
    found = from_info(
        {
            "redis_version": "7.2.4",
            "valkey_version": "9.1.2", "server_mode": "standalone", "role": "master",
            "db0": {"keys": 5, "expires": 1}, "db11": {"keys": 2, "expires": 2}, "master_repl_offset": 7,
            "slave0": {"ip": "10.0.0.1", "port": 6380, "state": "online", "offset": 6, "lag": 0},
            "modules": [{"name": "lua", "ver": 1}, {"name": "json", "ver": 2}],
        }
    )  # fmt: skip
    assert (found.keys, found.expires, found.version, found.offset) == (7, 3, "9.1.2", 7)
    assert found.replicas == (Replica("10.0.0.1", 6380, "online", 6, 0),)
    assert found.modules == ("json",)
    assert from_info({}).keys == 0


def test_secrets_are_masked():
    shown = shown_settings({"requirepass": "abc", "masterauth": "def", "tls-key-file-pass": "x", "dir": "/d"})
    assert shown["dir"] == "/d"
    assert not {"abc", "def", "x"} & set(shown.values())
    assert "abc" not in shown_user("user a on #abc >abc ~* +@all")


def test_slots_that_nobody_serves_are_found():
    rows = [[5461, 16383, ["h", 2, "id"]], [0, 99, ["", 1, "id"]], [200, 5460, ["", 1, "id"]]]
    shards = read(rows, "here")
    assert shards == [Shard(((0, 99), (200, 5460)), ("here", 1)), Shard(((5461, 16383),), ("h", 2))]
    assert unserved(shards) == [(100, 199)]
    assert unserved(read([[0, 16383, ["h", 1]]], "h")) == []
    assert unserved([]) == [(0, 16383)]


def test_addresses_as_people_write_them():
    assert place("redis") == ("redis", 6379, "")
    assert place("redis:1") == ("redis", 1, "")
    assert place("[::1]:7") == ("::1", 7, "")
    assert place("::1") == ("::1", 6379, "")
    assert place("/run/s") == ("", 6379, "/run/s")
    for bad in ("redis:x", "redis:0", "redis:70000"):
        with pytest.raises(ValueError, match="is no port"):
            place(bad)
    with pytest.raises(ValueError, match="places of their own"):
        RedisSpec(address="redis://user:pw@h")
    spec = RedisSpec.model_validate({"address": "h:1", "tls": {"ca": "/ca"}, "maxLag": "5s"})
    address = address_of(spec, "pw")
    assert str(address) == "h:1"
    assert "pw" not in repr(address)
    assert address.client_options()["ssl_ca_certs"] == "/ca"
