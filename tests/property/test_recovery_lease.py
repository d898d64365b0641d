"""Of any number of contenders, one at most holds a lease, whatever their stopwatches and the network do."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phoenix_orch.kernel.errors import Conflict, NotFound, Retryable, Terminal
from phoenix_orch.recovery.folder_store import FolderStore
from phoenix_orch.recovery.lease import HeldLease, leases, taken
from phoenix_orch.recovery.lease_rules import Lease
from phoenix_orch.recovery.objects import Stat

KEY = "locks/redis.json"
TTL = timedelta(seconds=10)


class Shelf:
    """A store of one object whose time the test makes; it tells whole seconds, and may lose answers."""

    def __init__(self) -> None:
        self.time = 0.0
        self.content: tuple[bytes, float, int] | None = None
        self.writes = 0
        self.losing = False

    def _moment(self, seconds: float) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=int(seconds))

    def now(self) -> datetime:
        return self._moment(self.time)

    def get(self, key: str) -> tuple[bytes, Stat]:
        if self.content is None:
            raise NotFound("none", remedy="-")
        raw, modified, etag = self.content
        return raw, Stat(key, len(raw), self._moment(modified), str(etag))

    def _put(self, raw: bytes) -> str:
        self.writes += 1
        self.content = (raw, self.time, self.writes)
        if self.losing:
            self.losing = False
            raise Conflict("tried again after a lost answer", remedy="-")
        return str(self.writes)

    def create(self, key: str, data: bytes) -> None:
        if self.content is not None:
            raise Conflict("there", remedy="-")
        self._put(data)

    def replace(self, key: str, data: bytes, etag: str) -> str:
        if self.content is None or str(self.content[2]) != etag:
            raise Conflict("changed", remedy="-")
        return self._put(data)


acts = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(["take", "renew", "back", "forget", "lose"]),
        st.floats(0, 14, allow_nan=False),
    ),
    max_size=40,
)


@given(acts)
@settings(max_examples=400, deadline=None)
def test_one_at_a_time(story: list[tuple[int, str, float]]) -> None:
    shelf = Shelf()
    held: dict[int, HeldLease] = {}
    forgotten: list[HeldLease] = []
    highest = 0

    def holds(lease: HeldLease) -> bool:
        try:
            lease.check()
        except Conflict:
            return False
        return True

    for who, act, pause in story:
        shelf.time += pause
        if act == "take":
            try:
                lease = taken(shelf, KEY, str(who), ttl=TTL, clock=lambda: shelf.time)  # type: ignore[arg-type]
            except Conflict:
                pass
            else:
                assert lease.generation > highest
                highest = lease.generation
                if who in held:
                    forgotten.append(held[who])
                held[who] = lease
        elif act == "lose":
            shelf.losing = True
        elif who in held and act == "renew":
            try:
                held[who].renew()
            except Conflict:
                assert not holds(held[who]) or shelf.losing
        elif who in held and act == "back":
            held.pop(who).give_back()
        elif who in held:
            forgotten.append(held.pop(who))
        now = [lease.generation for lease in [*held.values(), *forgotten] if holds(lease)]
        assert len(now) <= 1
        assert now in ([], [highest])


def test_a_holder_that_died_is_told() -> None:
    shelf = Shelf()
    first = taken(shelf, KEY, "one", ttl=TTL, clock=lambda: shelf.time)  # type: ignore[arg-type]
    assert first.abandoned is None
    with pytest.raises(Conflict, match="one has the lease"):
        taken(shelf, KEY, "two", ttl=TTL, clock=lambda: shelf.time)  # type: ignore[arg-type]
    shelf.time += 13
    second = taken(shelf, KEY, "two", ttl=TTL, clock=lambda: shelf.time)  # type: ignore[arg-type]
    assert second.abandoned is not None
    assert (second.abandoned.holder, second.abandoned.generation) == ("one", 1)
    with pytest.raises(Conflict):
        first.renew()
    second.give_back()
    third = taken(shelf, KEY, "three", ttl=TTL, clock=lambda: shelf.time)  # type: ignore[arg-type]
    assert third.abandoned is None
    assert third.generation == 3


@given(st.binary(max_size=60) | st.sampled_from([b"{}", b"[" * 5000, b'{"generation": 1}', b"null"]))
def test_what_is_no_lease_is_refused(raw: bytes) -> None:
    assert Lease.decoded(raw) is None
    shelf = Shelf()
    shelf.create(KEY, raw)
    with pytest.raises(Terminal, match="is no lease"):
        taken(shelf, KEY, "one", clock=lambda: shelf.time)  # type: ignore[arg-type]


def test_it_is_kept_by_a_thread_over_faults_of_the_store(tmp_path: Path) -> None:
    class Faulty(FolderStore):
        calls = 0
        kept = threading.Event()

        def replace(self, key: str, data: bytes, etag: str) -> str:
            self.calls += 1
            if self.calls % 2:
                raise Retryable("away", remedy="-")
            if self.calls >= 6:
                self.kept.set()
            return super().replace(key, data, etag)

    store = Faulty(tmp_path)
    with leases(store, "one", ttl=timedelta(seconds=3))(KEY) as fence:
        assert store.kept.wait(20)
        fence.check()
        with pytest.raises(Conflict):
            taken(store, KEY, "two")


def test_it_is_free_after_the_block_and_lost_when_it_is_taken(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    with leases(store, "one")(KEY) as fence:
        fence.check()
    with pytest.raises(Conflict):
        fence.check()
    with leases(store, "two")(KEY) as later:
        assert later.generation == fence.generation + 1
        assert later.abandoned is None
        store.delete(KEY)
        with pytest.raises(Conflict):
            later.renew()
        with pytest.raises(Conflict):
            later.check()
