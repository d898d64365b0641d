"""What is asked is on the disk first; what is urgent waits for no disk; no secret is in a record."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from phoenix_orch.kernel.errors import BadState, Retryable
from phoenix_orch.observability import metrics
from phoenix_orch.security.audit_chain import Entry, Outcome, Record
from phoenix_orch.security.audit_log import AuditLog
from phoenix_orch.security.recorder import MOST_KEPT, Origin, Recorder

pytestmark = pytest.mark.anyio


class Disk(AuditLog):
    """An audit log on a disk that may be full, or slow."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.full = False
        self.appends = 0
        self.open = threading.Event()
        self.open.set()

    def append(self, entries: Sequence[Entry]) -> list[Record]:
        self.open.wait(10)
        if self.full:
            raise Retryable("the audit log cannot be written: No space left on device")
        self.appends += 1
        return super().append(entries)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


@pytest.fixture
def recorder(disk: Disk) -> Recorder:
    return Recorder(disk, origin=lambda: Origin("ann", "r1", "127.0.0.1"))


def told(disk: Disk) -> list[tuple[str, str, str, int | None]]:
    return [(one.action, one.outcome, one.reason, one.asked) for one in disk.newest(100)]


async def test_what_is_asked_is_on_the_disk_before_it_is_done(disk: Disk, recorder: Recorder) -> None:
    async with recorder.acting("token.revoke", "token/ci", reason="it leaked", before={"uses": 3}) as act:
        (asked,) = disk.newest(10)
        assert (asked.actor, asked.request_id, asked.source) == ("ann", "r1", "127.0.0.1")
        assert (asked.outcome, asked.before) == (Outcome.ASKED, {"uses": 3})
        act.after = {"uses": 0}
    done = disk.newest(1)[0]
    assert (done.outcome, done.asked, done.after) == (Outcome.DONE, asked.seq, {"uses": 0})


@pytest.mark.parametrize(
    ("error", "outcome", "reason"),
    [
        (BadState("nothing is released"), Outcome.REFUSED, "nothing is released"),
        (Retryable("the store is away"), Outcome.FAILED, "the store is away"),
        (RuntimeError("password=hunter2"), Outcome.FAILED, "it ended with RuntimeError"),
        (asyncio.CancelledError(), Outcome.FAILED, "it ended with CancelledError"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_what_came_of_it_is_recorded(
    disk: Disk, recorder: Recorder, error: BaseException, outcome: Outcome, reason: str
) -> None:
    with pytest.raises(type(error)):
        async with recorder.acting("a.b", "c/d"):
            raise error
    await recorder.drain()
    assert told(disk) == [("a.b", Outcome.ASKED, "", None), ("a.b", outcome, reason, 1)]


async def test_what_cannot_be_recorded_is_not_done(disk: Disk, recorder: Recorder) -> None:
    disk.full, done = True, False
    with pytest.raises(Retryable, match="No space left"):
        async with recorder.acting("a.b", "c/d"):
            done = True
    assert not done
    disk.full = False
    await recorder.record("next.one", "c/d")
    assert told(disk) == [("next.one", Outcome.DONE, "", None)], "what was refused is not recorded later"


async def test_what_is_urgent_is_done_at_once_and_recorded_later(disk: Disk, recorder: Recorder) -> None:
    disk.full, done = True, False
    async with recorder.acting("rollout.abort", "rollout/shop", reason="bad", urgent=True):
        done = True
    assert done
    assert told(disk) == []
    async with asyncio.TaskGroup() as group:
        running = group.create_task(recorder.run())
        disk.full = False
        await recorder.record("next.one", "c/d")
        running.cancel()
    abort = [one for one in told(disk) if one[0] == "rollout.abort"]
    assert abort == [
        ("rollout.abort", Outcome.ASKED, "bad", None),
        ("rollout.abort", Outcome.DONE, "bad", None),
    ]


async def test_an_urgent_act_does_not_wait_for_a_disk_that_hangs(disk: Disk) -> None:
    recorder = Recorder(disk, patience=0.05)
    disk.open.clear()
    done = False
    async with asyncio.timeout(5):
        async with recorder.acting("rollout.abort", "rollout/shop", urgent=True):
            done = True
        with pytest.raises(Retryable, match="did not take a record"):
            await recorder.record("a.b", "c/d")
    assert done
    disk.open.set()
    await recorder.append([], however_long=True)
    assert ("rollout.abort", Outcome.DONE, "", None) in told(disk)


async def test_what_was_done_and_could_not_be_recorded_is_said(disk: Disk, recorder: Recorder) -> None:
    with pytest.raises(Retryable, match="was done, and the audit log does not hold that yet") as said:
        async with recorder.acting("a.b", "c/d"):
            disk.full = True
    assert "do not repeat it" in said.value.remedy
    disk.full = False
    await recorder.drain()
    assert told(disk) == [("a.b", Outcome.ASKED, "", None), ("a.b", Outcome.DONE, "", 1)]


async def test_many_callers_share_an_append(disk: Disk, recorder: Recorder) -> None:
    numbers = await asyncio.gather(*(recorder.record("a.b", f"c/{number}") for number in range(100)))
    assert sorted(numbers) == list(range(1, 101))
    assert disk.appends < 10
    assert disk.verify().faults == ()


async def test_a_caller_who_leaves_takes_nothing_from_the_others(disk: Disk, recorder: Recorder) -> None:
    disk.open.clear()
    first = asyncio.ensure_future(recorder.record("a.b", "c/1"))
    await asyncio.sleep(0)
    leaves, stays = (asyncio.ensure_future(recorder.record("a.b", f"c/{number}")) for number in (2, 3))
    await asyncio.sleep(0)
    leaves.cancel()
    await asyncio.sleep(0)
    disk.open.set()
    assert [await first, await stays] == [1, 2]
    assert [one.target for one in disk.newest(10)] == ["c/1", "c/3"]


async def test_what_no_memory_holds_is_counted(
    disk: Disk, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("phoenix_orch.security.recorder.MOST_KEPT", 2)
    assert MOST_KEPT > 2
    for number in range(5):
        recorder.note("a.b", f"c/{number}")
    await recorder.drain()
    assert [one.target for one in disk.newest(10)] == ["c/0", "c/1", "audit"]
    assert disk.newest(1)[0].reason == "3 records were lost while the audit log could not be written"
    await recorder.record("a.b", "c/d")
    assert [one.action for one in disk.newest(10)].count("audit.lost") == 1


SECRET = "hunter2"


@pytest.mark.parametrize(
    "given",
    [
        {"reason": f"password={SECRET}"},
        {"reason": f"see https://ann:{SECRET}@host/x"},
        {"before": {"env": {"PLAIN": SECRET}}},
        {"after": {"apiToken": SECRET}},
        {"after": [{"deep": {"command": ["run", "--password", SECRET]}}]},
        {"after": {"said": f"token: {SECRET}"}},
        {"actor": f"https://x:{SECRET}@host"},
    ],
    ids=str,
)
async def test_no_secret_is_in_a_record(disk: Disk, recorder: Recorder, given: dict[str, Any]) -> None:
    await recorder.record("a.b", "c/d", **given)
    (file,) = disk.files()
    assert SECRET not in file.read_text("utf-8")


async def test_records_are_counted_by_whether_they_were_kept(disk: Disk, recorder: Recorder) -> None:
    def counted() -> tuple[float, float]:
        found = (
            metrics.REGISTRY.get_sample_value("phoenix_audit_records_total", {"outcome": outcome})
            for outcome in ("kept", "failed")
        )
        kept, failed = (value or 0.0 for value in found)
        return kept, failed

    kept, failed = counted()
    await recorder.record("token.create", "token/ci")
    disk.full = True
    with pytest.raises(Retryable):
        await recorder.record("token.create", "token/ci")
    assert counted() == (kept + 1, failed + 1)
