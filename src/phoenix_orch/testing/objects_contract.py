"""What every ObjectStore has to do, as checks that need nothing but an empty store.

@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
def test_contract(check, my_store):
    check(my_store)
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from phoenix_orch.kernel.errors import Conflict, Invalid, NotFound, PhoenixError
from phoenix_orch.recovery.errors import Corrupted
from phoenix_orch.recovery.objects import LARGEST_SMALL, ObjectStore

Check = Callable[[ObjectStore], None]
LARGE = random.Random(7).randbytes(20 * 1024 * 1024)  # noqa: S311 - only has to be incompressible


def refused(what: Callable[[], object], error: type[PhoenixError]) -> None:
    raised: PhoenixError | None = None
    try:
        what()
    except PhoenixError as refusal:
        raised = refusal
    assert type(raised) is error, f"{raised!r} instead of {error.__name__}"
    assert raised.message
    assert raised.remedy


def written(store: ObjectStore, key: str, data: bytes, piece: int = 100_000) -> None:
    with store.writer(key, estimate=len(data)) as sink:
        for at in range(0, len(data), piece):
            assert sink.write(data[at : at + piece]) == len(data[at : at + piece])


def whole(store: ObjectStore, key: str, start: int = 0) -> bytes:
    with store.reader(key, start) as source:
        return b"".join(iter(lambda: source.read(300_001), b""))


def an_empty_store_has_nothing(store: ObjectStore) -> None:
    assert list(store.list("")) == []
    refused(lambda: store.get("a/b"), NotFound)
    refused(lambda: store.stat("a/b"), NotFound)
    refused(lambda: whole(store, "a/b"), NotFound)
    refused(lambda: store.replace("a/b", b"x", '"0"'), Conflict)
    store.delete("a/b")


def create_writes_once(store: ObjectStore) -> None:
    store.create("a/one", b"first")
    refused(lambda: store.create("a/one", b"second"), Conflict)
    content, stat = store.get("a/one")
    assert content == b"first"
    assert (stat.key, stat.size) == ("a/one", 5)
    assert stat == store.stat("a/one")
    store.create("a/empty", b"")
    assert store.get("a/empty")[0] == b""


def one_of_many_creates_wins(store: ObjectStore) -> None:
    won: list[bytes] = []

    def create(number: int) -> None:
        try:
            store.create("contested", b"%d" % number)
        except Conflict:
            return
        won.append(b"%d" % number)

    _at_once(create)
    assert [store.get("contested")[0]] == won


def replace_needs_the_newest_etag(store: ObjectStore) -> None:
    store.create("lease", b"0")
    first = store.stat("lease").etag
    second = store.replace("lease", b"1", first)
    assert second != first
    assert second == store.stat("lease").etag
    refused(lambda: store.replace("lease", b"2", first), Conflict)
    assert store.get("lease")[0] == b"1"
    third = store.replace("lease", b"0", second)
    store.delete("lease")
    refused(lambda: store.replace("lease", b"3", third), Conflict)
    refused(lambda: store.get("lease"), NotFound)


def one_of_many_replaces_wins(store: ObjectStore) -> None:
    store.create("lease", b"start")
    etag = store.stat("lease").etag
    won: list[bytes] = []

    def replace(number: int) -> None:
        try:
            store.replace("lease", b"%d" % number, etag)
        except Conflict:
            return
        won.append(b"%d" % number)

    _at_once(replace)
    assert [store.get("lease")[0]] == won


def streams_come_back_as_they_went(store: ObjectStore) -> None:
    for key, data in (("empty", b""), ("small", b"abc"), ("large", LARGE)):
        written(store, key, data)
        assert whole(store, key) == data
        assert store.stat(key).size == len(data)
    for start in (1, 8 * 1024 * 1024 - 1, len(LARGE) - 1, len(LARGE), len(LARGE) + 1):
        assert whole(store, "large", start) == LARGE[start:]
    with store.reader("large", 5) as source:
        assert source.read() == LARGE[5:]
        assert source.read(10) == b""
    refused(lambda: store.get("large"), Corrupted)


def a_writer_left_by_an_exception_leaves_nothing(store: ObjectStore) -> None:
    for size in (0, 100, len(LARGE)):
        raised = False
        try:
            with store.writer("broken") as sink:
                sink.write(LARGE[:size])
                raise ZeroDivisionError  # noqa: TRY301 - what a source may do
        except ZeroDivisionError:
            raised = True
        assert raised, "the error of the block is what is raised"
        refused(lambda: store.stat("broken"), NotFound)
    assert list(store.list("")) == []


def nothing_is_seen_before_the_writer_ends(store: ObjectStore) -> None:
    with store.writer("later") as sink:
        sink.write(LARGE)
        refused(lambda: store.stat("later"), NotFound)
        assert list(store.list("")) == []
    assert store.stat("later").size == len(LARGE)


def listed_by_prefix(store: ObjectStore) -> None:
    keys = ["a", "b-c/x", "b.d/x", "b/x", "b/y/z", "b0", "bb/1", "c/2026/11/28/x"]
    for key in reversed(keys):
        store.create(key, key.encode())
    assert sorted(stat.key for stat in store.list("")) == keys
    assert sorted(stat.key for stat in store.list("b")) == [key for key in keys if key.startswith("b")]
    assert sorted(stat.key for stat in store.list("b/")) == ["b/x", "b/y/z"]
    assert [stat.key for stat in store.list("b/y")] == ["b/y/z"]
    assert [stat.key for stat in store.list("c/2026/11/2")] == ["c/2026/11/28/x"]
    assert list(store.list("d/")) == []
    assert [stat.size for stat in store.list("c/")] == [len("c/2026/11/28/x")]
    store.delete("b/x")
    store.delete("b/x")
    assert [stat.key for stat in store.list("b/")] == ["b/y/z"]


def times_are_of_the_storage(store: ObjectStore) -> None:
    before = store.now()
    assert before.tzinfo is UTC
    assert abs(before - datetime.now(UTC)) < timedelta(minutes=5)
    store.create("timed", b"x")
    modified = store.stat("timed").modified
    assert modified.tzinfo is UTC
    second = timedelta(seconds=1)
    assert before - second <= modified <= store.now() + second


def keys_that_are_none_are_refused(store: ObjectStore) -> None:
    for key in ("", "/a", "a/", "a//b", "../a", "a/../b", ".tmp/a", "a b", "a?b", "é", "a\n", "x" * 901):
        refused(lambda key=key: store.create(key, b""), Invalid)  # type: ignore[misc]
        refused(lambda key=key: store.get(key), Invalid)  # type: ignore[misc]
        refused(lambda key=key: store.delete(key), Invalid)  # type: ignore[misc]
    refused(lambda: store.create("big", bytes(LARGEST_SMALL + 1)), Invalid)


def _at_once(act: Callable[[int], None]) -> None:
    gate = threading.Barrier(6)
    failures: list[BaseException] = []

    def run(number: int) -> None:
        gate.wait()
        try:
            act(number)
        except BaseException as error:  # noqa: BLE001 - raised below
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


CONTRACT: tuple[Check, ...] = (
    an_empty_store_has_nothing,
    create_writes_once,
    one_of_many_creates_wins,
    replace_needs_the_newest_etag,
    one_of_many_replaces_wins,
    streams_come_back_as_they_went,
    a_writer_left_by_an_exception_leaves_nothing,
    nothing_is_seen_before_the_writer_ends,
    listed_by_prefix,
    times_are_of_the_storage,
    keys_that_are_none_are_refused,
)
