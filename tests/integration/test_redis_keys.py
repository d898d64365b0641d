"""Some keys of a copy go into servers that live, with their TTLs, by each policy."""

from __future__ import annotations

import time

import pytest
from tests.redis_server import filled, redis7, serving

from phoenix_orch.kernel.errors import Invalid, Terminal
from phoenix_orch.recovery.redis_asking import asking
from phoenix_orch.recovery.restore.redis_keys import Conflict, Moved, Selection, databases, move
from phoenix_orch.recovery.restore.redis_target import load
from phoenix_orch.recovery.sources.replication import replicate
from phoenix_orch.recovery.throwaway_valkey import throwaway


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("origin")) as server:
        filled(server.client(), 700)
        filled(server.client(db=2), 5)
        yield server


@pytest.fixture(scope="module")
def copy(origin):
    """A throw-away server that holds a copy."""
    with replicate(origin.address) as stream:
        dump = stream.read()
    with throwaway() as server:
        load(server, lambda sink: sink.write(dump))
        yield server


def test_keys_that_match_come_with_type_value_and_ttl(tmp_path, origin, copy):
    with serving(tmp_path) as target:
        target.ask("SET", "mine", "stays")
        assert move(copy, target.address, Selection("ttl:*")) == Moved(700, 700)
        for number in (0, 9, 699):
            key = f"ttl:{number}"
            assert target.ask("GET", key) == origin.ask("GET", key)
            assert target.ask("PEXPIRETIME", key) == origin.ask("PEXPIRETIME", key) > 0
        for kind in ("string", "hash", "list", "set", "zset", "stream"):
            move(copy, target.address, Selection(f"{kind}:*"))
        assert target.ask("GET", "mine") == "stays"
        target.ask("DEL", "mine")
        with asking(copy) as client:
            for number in (2,):
                assert number in databases(copy)
            assert target.client().dbsize() == client.dbsize() == 4900
        move(copy, target.address, Selection(database=2))
        assert target.digest() == origin.digest()


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    ("selection", "counts", "value", "renamed"),
    [
        (Selection("string:1*"), Moved(311, 310, 0, 1), "mine", None),
        (Selection("string:1*", conflict=Conflict.OVERWRITE), Moved(311, 310, 1, 0), "value 1value 1", None),
        (
            Selection("string:1*", conflict=Conflict.RENAME, prefix="old:"),
            Moved(311, 311, 0, 0),
            "mine",
            "value 1value 1",
        ),
    ],
)
def test_each_policy_does_what_it_says_and_a_rehearsal_counts_the_same(
    tmp_path, copy, selection, counts, value, renamed, dry_run
):
    matched = sum(str(number).startswith("1") for number in range(700))
    counts = Moved(matched, matched - 311 + counts.restored, counts.overwritten, counts.skipped)
    with serving(tmp_path) as target:
        target.ask("SET", "string:1", "mine")
        before = target.digest()
        assert move(copy, target.address, selection, dry_run=dry_run) == counts
        if dry_run:
            assert target.digest() == before
        else:
            assert target.ask("GET", "string:1") == value
            assert target.ask("GET", "old:string:1") == renamed


def test_keys_whose_time_is_over_are_left_out(tmp_path, copy):
    with asking(copy) as client:
        client.set("soon", "gone", px=1)
    time.sleep(0.01)
    with serving(tmp_path) as target:
        found = move(copy, target.address, Selection("soon"))
        assert found in (Moved(1, expired=1), Moved())
        assert target.client().dbsize() == 0


def test_a_target_of_another_kind_is_told(tmp_path, origin, copy):
    with asking(copy) as client:
        client.hset("new", "f", "v")
        client.execute_command("HEXPIRE", "new", 1000, "FIELDS", 1, "f")
    with serving(tmp_path, binary=redis7()) as target, pytest.raises(Terminal, match="older"):
        move(copy, target.address, Selection("new"))
    with asking(copy) as client:
        client.delete("new")


def test_a_prefix_belongs_to_its_policy():
    for wrong in ({"prefix": "a"}, {"conflict": Conflict.RENAME}):
        with pytest.raises(Invalid):
            Selection(**wrong)
