"""Copies of real servers are walked through and loaded; damage is found, and nothing is left behind."""

from __future__ import annotations

import contextlib
import re
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.redis_server import filled, redis7, serving

from phoenix_orch.kernel.errors import BadState, PhoenixError
from phoenix_orch.recovery.errors import Corrupted
from phoenix_orch.recovery.manifest import Manifest
from phoenix_orch.recovery.rdb_check import DumpCheck
from phoenix_orch.recovery.rdb_counts import read
from phoenix_orch.recovery.rdb_load import DumpLoad
from phoenix_orch.recovery.sources.replication import replicate


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A dump, the digest of what was in the server, and its format."""
    with serving(tmp_path_factory.mktemp("origin")) as server:
        filled(server.client(), 100)
        filled(server.client(db=300 % 16), 10)
        server.ask("FUNCTION", "LOAD", "#!lua name=l\nredis.register_function('f', function() return 1 end)")
        with replicate(server.address) as stream:
            dump = stream.read()
        return dump, server.digest()


def manifest(**content: object) -> Manifest:
    return Manifest.model_construct(engine={"format": "VALKEY080"}, content=content)


def examined(check: DumpCheck | DumpLoad, data: bytes, of: Manifest | None = None) -> tuple[str, object]:
    with check.examine(of or manifest()) as examination:
        for at in range(0, len(data), 1000):
            examination.write(data[at : at + 1000])
        return examination.finish(), examination


def test_a_sound_copy_is_counted(copy):
    told, walk = examined(DumpCheck(), copy[0], manifest(keys=770))
    assert walk.counts.keys == 770
    assert walk.counts.expires == 110
    assert walk.counts.functions == 1
    assert walk.counts.types[0] == dict.fromkeys(("hash", "list", "set", "stream", "zset"), 100) | {
        "string": 200
    }
    assert "770 keys in 2 databases" in told
    assert DumpCheck().tools()["valkey-check-rdb"].startswith("9.")


def test_a_sound_copy_is_loaded_and_has_the_same_digest(copy):
    told, rehearsal = examined(DumpLoad(), copy[0], manifest(keys=700, counted="by INFO before the fork"))
    assert rehearsal.result.digest == copy[1]
    assert rehearsal.result.functions == 1
    assert rehearsal.result.loaded.loaded == 770
    assert f"digest {copy[1]}" in told


def test_keys_that_are_missing_are_found(copy):
    with pytest.raises(Corrupted, match="770 keys in the copy, and 900 were there"):
        examined(DumpCheck(), copy[0], manifest(keys=900))


@settings(max_examples=40)
@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_is_found(copy, at, bit):
    damaged = bytearray(copy[0])
    damaged[int(at * len(damaged))] ^= 1 << bit
    with pytest.raises(Corrupted):
        examined(DumpCheck(), bytes(damaged))


@settings(max_examples=20)
@given(at=st.floats(0, 1, exclude_max=True))
def test_any_cut_is_found(copy, at):
    with pytest.raises(Corrupted):
        examined(DumpCheck(), copy[0][: int(at * len(copy[0]))])


@pytest.mark.parametrize("at", [0.0, 0.3, 0.9])
def test_a_damaged_copy_is_not_loaded(copy, at):
    damaged = bytearray(copy[0])
    damaged[int(at * len(damaged))] ^= 255
    with pytest.raises(PhoenixError):
        examined(DumpLoad(), bytes(damaged))


def test_names_of_keys_are_not_told(copy):
    """The checker says at which key it was."""
    for at in range(20, len(copy[0]), len(copy[0]) // 7):
        with pytest.raises(Corrupted) as caught:
            examined(DumpCheck(), copy[0][:at])
        assert "damaged:" in caught.value.message
        assert not re.search(r"(string|ttl|hash|list|set|zset|stream):\w", caught.value.message)


def test_an_empty_server_has_a_good_copy(tmp_path):
    with serving(tmp_path) as server, replicate(server.address) as stream:
        dump = stream.read()
    assert "0 keys" in examined(DumpLoad(), dump, manifest(keys=0))[0]
    with pytest.raises(Corrupted, match="5 were there"):
        examined(DumpCheck(), dump, manifest(keys=5, counted="by INFO before the fork"))


def test_a_copy_of_redis_7_is_examined(tmp_path):
    with serving(tmp_path, binary=redis7()) as server:
        filled(server.client(), 20)
        with replicate(server.address) as stream:
            dump = stream.read()
    _, rehearsal = examined(
        DumpLoad(), dump, Manifest.model_construct(engine={"format": "REDIS0010"}, content={})
    )
    assert rehearsal.result.loaded.loaded == 140


def test_keys_whose_time_is_over_are_in_the_count(tmp_path):
    with serving(tmp_path) as server:
        filled(server.client(), 5)
        server.ask("DEBUG", "SET-ACTIVE-EXPIRE", 0)
        server.ask("SET", "soon", "gone", "PX", 1)
        time.sleep(0.01)
        with replicate(server.address) as stream:
            dump = stream.read()
    _, walk = examined(DumpCheck(), dump)
    assert (walk.counts.keys, walk.counts.expired) == (36, 1)
    assert examined(DumpLoad(), dump, manifest(keys=36))[1].result.loaded.loaded == 36


def test_what_this_tool_cannot_read_is_nothing_against_the_copy():
    with pytest.raises(BadState, match="cannot read REDIS0012"):
        examined(DumpCheck(), b"", Manifest.model_construct(engine={"format": "REDIS0012"}, content={}))


def test_nothing_is_left_behind(copy, monkeypatch):
    # short, since a socket lies in it; of this test alone, since others check copies, too
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        _nothing_is_left_behind(copy, Path(folder))


def _nothing_is_left_behind(copy, folder):
    children = psutil.Process().children(recursive=True)
    examined(DumpLoad(), copy[0])
    with contextlib.suppress(RuntimeError), DumpLoad().examine(manifest()) as examination:
        examination.write(copy[0][:5000])
        raise RuntimeError
    assert list(folder.iterdir()) == []
    assert psutil.Process().children(recursive=True) == children


def test_words_that_are_no_counts_are_none():
    assert read("") is None
    assert read("[info] 5 keys read\n[info] 1 expires\n[info] 0 already expired\n[info] 1 functions") is None
