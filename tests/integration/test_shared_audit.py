"""The audit log that replicas share, on a real Valkey: one chain, whoever writes, and what is done to it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import multiprocessing
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from phoenix_orch.kernel.errors import Conflict, Retryable, Terminal
from phoenix_orch.runtime.valkey_server import ServerInfo, ValkeyServer
from phoenix_orch.security.audit_chain import Entry
from phoenix_orch.security.audit_log import PRUNE
from phoenix_orch.security.recorder import Recorder
from phoenix_orch.security.shared_audit import Come, SharedAuditLog

NOW = datetime(2026, 3, 1, tzinfo=UTC)
_numbers = itertools.count()


def prefix() -> str:
    return f"phoenix:test{next(_numbers)}:audit:"


def entry(number: int, at: datetime = NOW) -> Entry:
    return Entry(at=at, actor="ann", action="rollout.start", target=f"rollout/{number}", reason="né\u2028w")


def filled(server: ServerInfo, count: int) -> tuple[SharedAuditLog, redis.Redis, str]:
    name = prefix()
    log = SharedAuditLog(server.url, prefix=name)
    log.append([entry(number) for number in range(count)])
    return log, redis.Redis.from_url(server.url), name


def test_what_is_appended_is_read_and_verified_by_another(server: ServerInfo) -> None:
    log, _, name = filled(server, 3)
    (record,) = log.append([entry(3)])
    other = SharedAuditLog(server.url, prefix=name)
    assert record.seq == 4
    assert [one.target for one in other.after(1)] == ["rollout/1", "rollout/2", "rollout/3"]
    assert [one.seq for one in other.newest(2)] == [3, 4]
    assert [one.seq for one in other.newest(5, lambda one: one.target.endswith("0"), before=4)] == [1]
    found = other.verify(log.last())
    assert (found.holds, found.records, found.last) == (True, 4, log.last())
    assert SharedAuditLog(server.url, prefix=prefix()).verify().holds


def test_many_writers_make_one_chain(server: ServerInfo) -> None:
    name = prefix()
    logs = [SharedAuditLog(server.url, prefix=name) for _ in range(4)]

    def write(log: SharedAuditLog) -> list[int]:
        return [record.seq for number in range(25) for record in log.append([entry(number)] * 2)]

    with ThreadPoolExecutor(4) as pool:
        told = sorted(itertools.chain(*pool.map(write, logs)))
    assert told == list(range(1, 201))
    found = logs[0].verify()
    assert (found.holds, found.records) == (True, 200)


def write_for_ever(url: str, name: str, told: int) -> None:
    log = SharedAuditLog(url, prefix=name)
    for number in itertools.count():
        (record,) = log.append([entry(number)])
        os.write(told, record.seq.to_bytes(4, "big"))


def test_a_writer_that_is_killed_leaves_a_chain_with_all_that_it_was_told(server: ServerInfo) -> None:
    name = prefix()
    reading, writing = os.pipe()
    process = multiprocessing.get_context("fork").Process(
        target=write_for_ever, args=(server.url, name, writing)
    )
    process.start()
    os.close(writing)
    told = [os.read(reading, 4) for _ in range(30)]
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    log = SharedAuditLog(server.url, prefix=name)
    log.append([entry(0)])
    found = log.verify()
    assert found.holds
    assert found.records > int.from_bytes(told[-1], "big") >= 30


def test_a_lost_answer_leaves_no_record_twice(server: ServerInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    log, _, _ = filled(server, 1)
    real, lost = log._sent, []

    def lose(given: object) -> list[bytes]:
        answer = real(given)  # type: ignore[arg-type]
        if not lost:
            lost.append(answer)
            raise Retryable("the answer was lost")
        return answer

    monkeypatch.setattr(log, "_sent", lose)
    assert [one.seq for one in log.append([entry(1), entry(2)])] == [2, 3]
    assert log.verify().records == 3


# -- what is followed --------------------------------------------------------------------------------

EVENTS = 400


def told(number: int) -> Entry:
    return replace(entry(0), event=f"shop:{number}")


def events_in(log: SharedAuditLog) -> list[int]:
    return [int(one.event.partition(":")[2]) for one in log.after(0) if one.event]


def test_records_and_how_far_they_come_are_one_step(server: ServerInfo) -> None:
    log, _, name = filled(server, 1)
    other = SharedAuditLog(server.url, prefix=name)
    assert log.followed() == {}
    log.append([told(1), told(2)], Come("shop", "", "2"))
    with pytest.raises(Conflict, match="has come to 2 with shop"):
        other.append([told(1)], Come("shop", "", "1"))
    other.append([told(9)], Come("till", "", "9"))
    assert log.followed() == {"shop": "2", "till": "9"}
    assert events_in(other) == [1, 2, 9]
    assert other.verify().records == 4
    log.prune(NOW + timedelta(days=1), entry(0))
    assert log.followed() == {"shop": "2", "till": "9"}, "what is pruned is not told anew"


def test_a_lost_answer_of_what_is_followed_is_no_conflict(
    server: ServerInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, _, _ = filled(server, 1)
    real, lost = log._sent, []

    def lose(given: object) -> list[bytes]:
        answer = real(given)  # type: ignore[arg-type]
        if not lost:
            lost.append(answer)
            raise Retryable("the answer was lost")
        return answer

    monkeypatch.setattr(log, "_sent", lose)
    log.append([told(1)], Come("shop", "", "1"))
    assert (events_in(log), log.followed()) == ([1], {"shop": "1"})


def follow(url: str, name: str, until: int = EVENTS) -> None:
    """As replicas do that all believe they lead."""
    log = SharedAuditLog(url, prefix=name)
    while (come := int(log.followed().get("shop", "0"))) < until:
        now = min(until, come + 3)
        entries = [told(number) for number in range(come + 1, now + 1)]
        with contextlib.suppress(Conflict):
            log.append(entries, Come("shop", str(come or ""), str(now)))


def test_each_event_is_there_once_whoever_follows_and_is_killed(server: ServerInfo) -> None:
    name = prefix()
    log = SharedAuditLog(server.url, prefix=name)
    context = multiprocessing.get_context("fork")
    for part in range(1, 6):
        followers = [context.Process(target=follow, args=(server.url, name)) for _ in range(2)]
        for follower in followers:
            follower.start()
        for follower in followers:
            while int(log.followed().get("shop", "0")) < part * EVENTS // 8 and follower.is_alive():
                log.append([entry(part)])  # what people do comes in between
            assert follower.pid is not None
            os.kill(follower.pid, signal.SIGKILL)
            follower.join()
    follow(server.url, name)
    assert events_in(log) == list(range(1, EVENTS + 1))
    assert log.verify().holds


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_done_to_it_is_found(server: ServerInfo, data: st.DataObject) -> None:
    log, client, name = filled(server, 6)
    records = f"{name}records"
    seq = data.draw(st.integers(1, 6), "record")
    how = data.draw(st.sampled_from(["flip", "remove", "swap", "cut", "head"]), "how")
    pages = client.xrange(records)
    lines = [fields[b"line"] for _, fields in pages]
    if how == "flip":
        at = data.draw(st.integers(0, len(lines[seq - 1]) - 1), "byte")
        bit = data.draw(st.integers(0, 7), "bit")
        changed = bytearray(lines[seq - 1])
        changed[at] ^= 1 << bit
        lines[seq - 1] = bytes(changed)
    elif how == "swap":
        other = data.draw(st.integers(1, 6).filter(lambda one: one != seq), "other")
        lines[seq - 1], lines[other - 1] = lines[other - 1], lines[seq - 1]
    client.delete(records)
    for number, line in enumerate(lines, 1):
        if not (how == "remove" and number == seq) and not (how == "cut" and number >= seq):
            client.xadd(records, {"line": line}, id=f"{number}-0")
    if how == "head":
        client.delete(f"{name}head")
    found = SharedAuditLog(server.url, prefix=name).verify()
    assert not found.holds
    assert found.faults
    if how in {"cut", "head"} or (how == "remove" and seq == 6):
        with pytest.raises(Terminal):
            log.append([entry(9)])
        with pytest.raises(Terminal):
            SharedAuditLog(server.url, prefix=name).append([entry(9)])


def test_a_store_that_has_forgotten_is_not_written_to_by_who_knows_better(server: ServerInfo) -> None:
    log, client, name = filled(server, 2)
    client.delete(f"{name}records", f"{name}head")
    with pytest.raises(Terminal, match="had come to 2"):
        log.append([entry(0)])


def test_a_chain_that_was_made_anew_does_not_hold_what_was_noted(server: ServerInfo) -> None:
    log, client, name = filled(server, 2)
    noted = log.last()
    client.delete(f"{name}records", f"{name}head")
    again = SharedAuditLog(server.url, prefix=name)
    again.append([replace(entry(number), actor="eve") for number in range(2)])
    assert again.verify().holds
    assert [place.fault.kind for place in again.verify(noted).faults] == ["rewritten"]


def test_old_records_are_removed_and_the_rest_says_so(server: ServerInfo) -> None:
    log, client, name = filled(server, 3)
    log.append([entry(9, NOW + timedelta(days=9))])
    assert log.prunable(NOW + timedelta(days=1)) == 3
    assert log.prune(NOW + timedelta(days=1), replace(entry(0), at=NOW + timedelta(days=10))) == 3
    found = log.verify()
    assert (found.holds, found.first, found.records) == (True, 4, 2)
    assert log.newest(1)[0].action == PRUNE
    assert log.prune(NOW + timedelta(days=1), entry(0)) == 0
    client.xtrim(f"{name}records", minid="5-0", approximate=False)
    assert not log.verify().holds


async def test_without_the_store_what_is_audited_is_refused_and_what_is_urgent_is_done(tmp_path) -> None:
    keeper = ValkeyServer(tmp_path)
    url = (await keeper.ensure()).url
    log = SharedAuditLog(url, prefix="phoenix:audit:")
    recorder = Recorder(log, patience=20)
    running = asyncio.create_task(recorder.run())
    await keeper.stop()
    done = []
    with pytest.raises(Retryable):
        async with recorder.acting("rollout.start", "rollout/shop"):
            done.append("start")
    async with asyncio.timeout(5), recorder.acting("rollout.abort", "rollout/shop", urgent=True):
        done.append("abort")
    assert done == ["abort"]
    await keeper.ensure()
    async with asyncio.timeout(30):
        while [one.action for one in await asyncio.to_thread(log.newest, 9)] != ["rollout.abort"] * 2:
            await asyncio.sleep(0.1)
    running.cancel()
    assert log.verify().holds
    await keeper.stop()
