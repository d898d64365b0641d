"""What Phoenix does is in the audit log by its events: none is lost, none is there twice, whatever dies."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from phoenix_orch.kernel.clock import RealClock
from phoenix_orch.kernel.errors import Retryable
from phoenix_orch.orchestrator.followed_events import FileProgress, FollowedEvents
from phoenix_orch.rollout.status import Event, State, Status
from phoenix_orch.rollout.store.valkey import ValkeyStore
from phoenix_orch.runtime.valkey_server import ServerInfo
from phoenix_orch.security.audit_chain import Entry, Record
from phoenix_orch.security.audit_log import AuditLog
from phoenix_orch.security.recorder import Recorder
from phoenix_orch.testing.store_samples import SHOP

pytestmark = pytest.mark.anyio
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
_numbers = itertools.count()


@pytest.fixture
async def store(server: ServerInfo) -> AsyncIterator[ValkeyStore]:
    store = ValkeyStore(server.url, prefix=f"test{next(_numbers)}:")
    await store.put(SHOP)
    yield store
    await store.close()


class Disk(AuditLog):
    full = False
    forgetful = False
    """It takes what it is given and then says that it did not."""

    def append(self, entries: Sequence[Entry]) -> list[Record]:
        if self.full:
            raise Retryable("No space left on device")
        written = super().append(entries)
        if self.forgetful:
            raise Retryable("Input/output error")
        return written


def follower(store: ValkeyStore, directory: Path) -> tuple[FollowedEvents, Disk]:
    """As a process that starts would make it."""
    disk = Disk(directory / "audit")
    kept = directory / "followed.json"
    recorder = Recorder(disk)
    return FollowedEvents(store, FileProgress(recorder, kept), recorder.made, RealClock().wall), disk


def told(disk: Disk) -> list[tuple[str, Any, Any]]:
    return [(one.action, one.before, one.after) for one in disk.newest(100)]


def step(number: int, state: State, weight: int) -> Event:
    return Event(at=NOON, reason=state.value, message=f"m{number}", state=state, weight=weight)


async def test_acts_are_recorded_with_what_they_changed(store: ValkeyStore, tmp_path: Path) -> None:
    acts, disk = follower(store, tmp_path)
    seen = Event(at=NOON, reason="Hold", message="too few requests", state=State.PROGRESSING, weight=5)
    await store.save(
        await store.get("shop"),
        Status(weight=5),
        events=[step(1, State.PROGRESSING, 5), seen, step(2, State.ROLLING_BACK, 0)],
    )
    await store.append_events("shop", [Event(at=NOON, reason="Start", message="a word of a person")])
    await acts.catch_up()
    assert told(disk) == [
        ("rollout.progress", None, {"state": "Progressing", "weight": 5}),
        (
            "rollout.take-back",
            {"state": "Progressing", "weight": 5},
            {"state": "RollingBack", "weight": 0},
        ),
    ]
    assert [(one.actor, one.at, one.reason) for one in disk.newest(1)] == [("phoenix", NOON, "m2")]


@pytest.mark.parametrize("harm", ["nothing", "not kept", "kept earlier", "garbage"])
async def test_a_start_goes_on_exactly_where_it_was(store: ValkeyStore, tmp_path: Path, harm: str) -> None:
    kept, early = tmp_path / "followed.json", b""
    for number in range(3):
        await store.append_events("shop", [step(number, State.PROGRESSING, number)])
        await follower(store, tmp_path)[0].catch_up("shop")  # each is a new process
        early = early or kept.read_bytes()
    match harm:
        case "not kept":
            kept.unlink()
        case "kept earlier":
            kept.write_bytes(early)
        case "garbage":
            kept.write_bytes(b'{"seq":')
    await store.append_events("shop", [step(3, State.PROGRESSING, 3)])
    acts, disk = follower(store, tmp_path)
    await acts.catch_up()
    await acts.catch_up()
    assert [one.reason for one in disk.newest(100)] == ["m0", "m1", "m2", "m3"]
    assert disk.verify().faults == ()


@pytest.mark.parametrize("fault", ["full", "forgetful"])
async def test_a_disk_that_fails_loses_none_and_doubles_none(
    store: ValkeyStore, tmp_path: Path, fault: str
) -> None:
    acts, disk = follower(store, tmp_path)
    await store.append_events("shop", [step(1, State.PROGRESSING, 1)])
    setattr(disk, fault, True)
    await acts.catch_up()
    setattr(disk, fault, False)
    await store.append_events("shop", [step(2, State.PROGRESSING, 2)])
    await acts.catch_up()
    assert [one.reason for one in disk.newest(100)] == ["m1", "m2"]


async def test_a_log_of_events_that_was_made_anew_is_followed(
    store: ValkeyStore, server: ServerInfo, tmp_path: Path
) -> None:
    acts, disk = follower(store, tmp_path)
    await store.append_events("shop", [step(1, State.PROGRESSING, 1)])
    await acts.catch_up()
    key = store._key("events", "shop")
    await store._client.delete(key)
    await store._client.xadd(key, {"json": step(2, State.PROGRESSING, 2).model_dump_json()}, id="5-1")
    await acts.catch_up()
    await acts.catch_up()
    assert [one.reason for one in disk.newest(100)] == ["m1", "m2"]


async def test_many_events_come_page_by_page(store: ValkeyStore, tmp_path: Path) -> None:
    acts, disk = follower(store, tmp_path)
    await store.append_events("shop", [step(number, State.PROGRESSING, 1) for number in range(1200)])
    await acts.catch_up()
    assert [one.reason for one in disk.newest(2000)] == [f"m{number}" for number in range(1200)]


async def test_it_runs_by_itself(store: ValkeyStore, tmp_path: Path) -> None:
    acts, disk = follower(store, tmp_path)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        running = group.create_task(acts.run())
        await store.append_events("shop", [step(1, State.PROGRESSING, 1)])
        while not disk.files():
            await asyncio.sleep(0.02)
        running.cancel()
    assert [one.reason for one in disk.newest(2)] == ["m1"]
