"""What a restore finds before it begins: every reason against it, and what to do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from phoenix_orch.recovery.redis_facts import RedisFacts, Replica
from phoenix_orch.recovery.restore.rdb_versions import unreadable
from phoenix_orch.recovery.restore.redis_preflight import Copy, Target, Weight, blocked, preflight

FACTS = RedisFacts("valkey", "9.1.2", "standalone", "master", "r" * 40, used_memory=500, system_memory=10_000)
COPY = Copy("VALKEY080", "9.1.2", 100, 1000)


@pytest.mark.parametrize(
    ("server", "version", "readable", "not_readable"),
    [
        ("redis", "6.2.14", ["REDIS0009"], ["REDIS0010", "REDIS0011", "VALKEY080"]),
        ("redis", "7.0.15", ["REDIS0009", "REDIS0010"], ["REDIS0011", "REDIS0012", "VALKEY080"]),
        ("redis", "7.2.4", ["REDIS0011"], ["REDIS0012", "VALKEY080"]),
        ("redis", "7.4.1", ["REDIS0011", "REDIS0012"], ["VALKEY080"]),
        ("redis", "8.2.0", ["REDIS0011", "REDIS0012"], ["REDIS0013", "VALKEY080"]),
        ("redis", "8.6.1", ["REDIS0012", "REDIS0013"], ["REDIS0014", "VALKEY080"]),
        ("redis", "8.8.0", ["REDIS0014"], ["REDIS0015"]),
        ("redis", "9.0.0", ["REDIS0015"], ["VALKEY080"]),
        ("valkey", "7.2.6", ["REDIS0011"], ["REDIS0012", "VALKEY080"]),
        ("valkey", "8.1.0", ["REDIS0011"], ["REDIS0012", "VALKEY080"]),
        ("valkey", "9.1.2", ["REDIS0011", "VALKEY080"], ["REDIS0012", "VALKEY081"]),
        ("valkey", "10.0.0", ["REDIS0011", "VALKEY080", "VALKEY081"], ["REDIS0012"]),
    ],
)
def test_which_server_reads_which_dump(server, version, readable, not_readable):
    for name in readable:
        assert unreadable(server, version, name) == ""
    for name in not_readable:
        assert version in unreadable(server, version, name)
    assert unreadable(server, version, "RUBBISH00")


def against(copy: Copy, target: Target) -> dict[str, str]:
    return {one.check: one.found for one in blocked(preflight(copy, target))}


def test_nothing_is_against_a_good_target():
    found = preflight(COPY, Target(FACTS))
    assert not blocked(found)
    assert {one.weight for one in found} == {Weight.OK}


@pytest.mark.parametrize(
    ("change", "more", "check", "words"),
    [
        ({"version": "8.0.1"}, {}, "format", "cannot read VALKEY080"),
        ({"mode": "cluster"}, {}, "mode", "runs as cluster"),
        ({"mode": "sentinel"}, {}, "mode", "runs as sentinel"),
        ({"role": "slave", "primary": ("p", 1)}, {}, "role", "replica of p:1"),
        ({"loading": True}, {}, "role", "loading"),
        ({"max_memory": 1000, "eviction": "allkeys-lru"}, {}, "memory", "would throw keys away"),
        ({"system_memory": 1050}, {}, "memory", "1,100 bytes are needed and the machine has 1,050"),
        ({"system_memory": 1500}, {"diskless_load": "swapdb"}, "memory", "old and new data at once"),
        ({}, {"may_follow": False}, "rights", "managed service"),
        ({}, {"tls_replication": True}, "tls", "TLS alone"),
        (
            {},
            {"tls_replication": True, "certificate": "f", "distrust": "expired"},
            "tls",
            "not trust f: expired",
        ),
        ({}, {"sentinels": 3}, "sentinel", "3 Sentinels"),
        ({"databases": {0: (5, 0)}}, {"diskless_load": "flush-before-load"}, "old data", "before new data"),
    ],
)
def test_what_is_against_a_target_is_found_and_has_a_remedy(change, more, check, words):
    target = Target(replace(FACTS, **change), **more)
    found = [one for one in preflight(COPY, target) if one.check == check]
    assert [one.weight for one in found] == [Weight.BLOCKS]
    assert words in found[0].found
    assert found[0].remedy


def test_modules_that_the_target_lacks_block():
    assert against(replace(COPY, modules=("json", "bf")), Target(replace(FACTS, modules=("bf",)))) == {
        "modules": "the copy may hold data of modules that the target lacks: json"
    }


def test_what_a_person_should_know_is_a_warning():
    busy = replace(
        FACTS,
        databases={0: (5, 0)},
        replicas=(Replica("r", 1, "online", 0, 0),),
        append_only=True,
        saving=True,
    )
    found = {one.check: one for one in preflight(Copy(), Target(busy, stop_writes=1))}
    for check in ("format", "memory", "data", "replicas", "append-only file"):
        assert found[check].weight is Weight.WARNS, check
    assert "5 keys" in found["data"].found
    assert "no writes until 1 are back" in found["replicas"].found


def test_flushing_first_does_no_harm_to_an_empty_target():
    assert not against(COPY, Target(FACTS, diskless_load="flush-before-load"))
