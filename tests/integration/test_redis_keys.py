"""Some keys of a copy go into servers that live, with their TTLs, by each policy."""

from __future__ import annotations

import io
import itertools
import random
import time
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis
from redis.crc import key_slot
from tests.redis_server import Server, filled, redis7, serving

from phoenix_orch.kernel.errors import Invalid, Terminal
from phoenix_orch.recovery.config_pack import Pieces
from phoenix_orch.recovery.errors import Corrupted
from phoenix_orch.recovery.key_patterns import matching
from phoenix_orch.recovery.rdb_walk import Key, walk
from phoenix_orch.recovery.restore.redis_keys import Conflict, Moved, Selection, chosen, move
from phoenix_orch.recovery.restore.slot_owners import owners_of, slot_of
from phoenix_orch.recovery.sources.replication import replicate

Move = Callable[..., Moved]


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("origin")) as server:
        filled(server.client(), 700)
        filled(server.client(db=2), 5)
        yield server


@pytest.fixture(scope="module")
def dump(origin: Server) -> bytes:
    return dumped(origin)


def dumped(server: Server) -> bytes:
    with replicate(server.address) as stream:
        return stream.read()


def moved(dump: bytes, target: Server, selection: Selection, *, dry_run: bool = False) -> Moved:
    keys = chosen(walk(io.BytesIO(dump).read, values=not dry_run), selection)
    return move(keys, owners_of(target.address), selection, dry_run=dry_run)


def test_keys_that_match_come_with_type_value_and_ttl(tmp_path, origin, dump):
    with serving(tmp_path) as target:
        target.ask("SET", "mine", "stays")
        assert moved(dump, target, Selection("ttl:*")) == Moved(700, 700)
        for number in (0, 9, 699):
            key = f"ttl:{number}"
            assert target.ask("GET", key) == origin.ask("GET", key)
            assert target.ask("PEXPIRETIME", key) == origin.ask("PEXPIRETIME", key) > 0
        for kind in ("string", "hash", "list", "set", "zset", "stream"):
            moved(dump, target, Selection(f"{kind}:*"))
        assert target.ask("GET", "mine") == "stays"
        target.ask("DEL", "mine")
        assert target.client().dbsize() == origin.client().dbsize() == 4900
        moved(dump, target, Selection(database=2))
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
    tmp_path, dump, selection, counts, value, renamed, dry_run
):
    matched = sum(str(number).startswith("1") for number in range(700))
    counts = Moved(matched, matched - 311 + counts.restored, counts.overwritten, counts.skipped)
    with serving(tmp_path) as target:
        target.ask("SET", "string:1", "mine")
        before = target.digest()
        assert moved(dump, target, selection, dry_run=dry_run) == counts
        if dry_run:
            assert target.digest() == before
        else:
            assert target.ask("GET", "string:1") == value
            assert target.ask("GET", "old:string:1") == renamed


def test_keys_whose_time_is_over_are_left_out(tmp_path, origin):
    moment = int(time.time() * 1000) + 3000
    origin.ask("SET", "soon", "gone", "PXAT", moment)
    dump = dumped(origin)
    while time.time() * 1000 <= moment:
        time.sleep(0.05)
    with serving(tmp_path) as target:
        assert moved(dump, target, Selection("soon")) == Moved(1, expired=1)
        assert target.client().dbsize() == 0


def test_a_target_of_another_kind_is_told(tmp_path, dump):
    with serving(tmp_path, binary=redis7()) as target, pytest.raises(Terminal, match="older"):
        moved(dump, target, Selection("string:1"))


def test_a_prefix_belongs_to_its_policy():
    for wrong in ({"prefix": "a"}, {"conflict": Conflict.RENAME}):
        with pytest.raises(Invalid):
            Selection(**wrong)


def test_values_stand_in_a_dump_as_the_server_gives_them(origin, dump):
    """Byte for byte what DUMP says, but for the version, which a dump has another one of."""
    compared = 0
    with Redis(port=origin.port) as client:
        for key in walk(io.BytesIO(dump).read):
            if isinstance(key, Key) and key.database == 0 and client.exists(key.name):
                assert key.value[:-10] == client.dump(key.name)[:-10]
                compared += 1
    assert compared >= 4900


def test_a_dump_that_is_cut_or_changed_never_ends_well_or_without_a_word(tmp_path):
    with serving(tmp_path) as server:
        filled(server.client(), 15)
        dump = dumped(server)
    chance = random.Random(7)
    for at in [*range(60), *(chance.randrange(len(dump) - 9) for _ in range(60))]:
        with pytest.raises((Corrupted, Terminal)):
            list(walk(io.BytesIO(dump[:at]).read))
    for _ in range(300):  # a changed byte may give another value, whose digest does not hold; never a crash
        broken = bytearray(dump)
        broken[chance.randrange(len(dump))] ^= chance.randrange(1, 256)
        try:
            list(walk(io.BytesIO(bytes(broken)).read))
        except (Corrupted, Terminal):
            continue


def test_what_is_only_walked_past_takes_no_memory_however_large_it_is():
    """A value of 96 MiB, then a list of as much in small pieces; neither is wanted."""
    large, pieces = 96 * 2**20, 2**20
    small = bytes([50]) + b"y" * 50

    def parts() -> Iterator[bytes]:
        yield b"REDIS0011\xfe\x00\x00\x03big\x80" + large.to_bytes(4, "big")
        yield from itertools.repeat(bytes(2**20), large // 2**20)
        yield b"\x01\x04list\x80" + pieces.to_bytes(4, "big")
        yield from itertools.repeat(small * 2**10, pieces // 2**10)
        yield b"\x00\x03end\x01z\xff12345678"

    pieces_of = Pieces(parts())
    tracemalloc.start()
    try:
        found = [one.name for one in walk(pieces_of.read, values=False) if isinstance(one, Key)]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == [b"big", b"list", b"end"]
    assert peak < 12 * 2**20


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("asked")) as server:
        yield server


PATTERNS = st.text(alphabet="ab[]^-*?\\c", max_size=8)
NAMES = st.text(alphabet="abc[]^-*?\\", min_size=1, max_size=5)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pattern=PATTERNS, names=st.sets(NAMES, min_size=1, max_size=6))
def test_patterns_mean_what_the_server_means(asked: Server, pattern: str, names: set[str]):
    with asked.client() as client:
        client.flushall()
        client.mset(dict.fromkeys(names, "1"))
        found = set(client.keys(pattern))
    assert {name for name in names if matching(pattern)(name.encode())} == found


@given(key=st.text(alphabet="ab{}", max_size=8))
@settings(max_examples=100, deadline=None)
def test_slots_are_those_of_the_client_library(key: str):

    assert slot_of(key.encode()) == key_slot(key.encode())
