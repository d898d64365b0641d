"""The audit log: appended by many, continued after a crash, and no change of it goes unseen."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_orch.kernel.errors import Retryable, Terminal
from phoenix_orch.security import audit_head, audit_log
from phoenix_orch.security.audit_chain import GENESIS, LONGEST_VALUE, Entry, FaultKind, Link, Walk, encoded
from phoenix_orch.security.audit_log import AuditLog

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
ENTRIES = st.lists(
    st.builds(
        Entry,
        at=st.datetimes(timezones=st.just(UTC)),
        actor=st.text(max_size=20),
        action=st.text(max_size=20),
        target=st.text(max_size=20),
        reason=st.text(max_size=50),
        before=JSON,
        after=JSON,
    ),
    min_size=2,
    max_size=8,
)


def entry(number: int = 1) -> Entry:
    return Entry(
        at=NOON + timedelta(days=number),
        actor="ann",
        action="rollout.abort",
        target="rollout/shop",
        reason=f"for the {number}. time",
        before={"weight": 20},
        after={"weight": 0},
        request_id=f"r{number}",
        source="local",
    )


def chain(entries: list[Entry]) -> tuple[list[bytes], Link]:
    link, lines = GENESIS, []
    for one in entries:
        line, link = encoded(one, link)
        lines.append(line)
    return lines, link


def faults(content: bytes, last: Link) -> list[FaultKind]:
    walk = Walk()
    walk.over(content.splitlines(keepends=True) if b"\r" not in content else _lines(content))
    walk.ends_at(last)
    return [one.kind for one in walk.faults]


def _lines(content: bytes) -> list[bytes]:
    """As a file gives them: only a line feed ends one."""
    parts = content.split(b"\n")
    return [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


@given(ENTRIES)
def test_what_was_written_holds_and_says_what_was_told(entries: list[Entry]) -> None:
    lines, last = chain(entries)
    assert faults(b"".join(lines), last) == []
    assert all(line.count(b"\n") == 1 for line in lines)
    for line, one in zip(lines, entries, strict=True):
        assert json.loads(line)["seq"] > 0
        assert audit_log.decoded(line).at == one.at


@given(ENTRIES, st.data())
def test_no_single_bit_can_be_flipped(entries: list[Entry], data: st.DataObject) -> None:
    lines, last = chain(entries)
    content = bytearray(b"".join(lines))
    place = data.draw(st.integers(0, len(content) * 8 - 1))
    content[place // 8] ^= 1 << (place % 8)
    assert faults(bytes(content), last)


@given(ENTRIES, st.data())
def test_no_record_can_be_removed_swapped_or_doubled(entries: list[Entry], data: st.DataObject) -> None:
    lines, last = chain(entries)
    at = data.draw(st.integers(0, len(lines) - 1))
    other = data.draw(st.integers(0, len(lines) - 1).filter(lambda found: found != at))
    removed, swapped = lines[:at] + lines[at + 1 :], list(lines)
    swapped[at], swapped[other] = swapped[other], swapped[at]
    for changed in (removed, swapped, [*lines[:at], lines[at], *lines[at:]]):
        assert faults(b"".join(changed), last)


@given(ENTRIES, st.data())
def test_nothing_can_be_cut_off(entries: list[Entry], data: st.DataObject) -> None:
    lines, last = chain(entries)
    content = b"".join(lines)
    assert FaultKind.CUT in faults(content[: data.draw(st.integers(0, len(content) - 1))], last)


def test_a_fault_says_where_it_is(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    log.append([entry(number) for number in range(5)])
    (file,) = log.files()
    file.write_bytes(file.read_bytes().replace(b"for the 2. time", b"for the 9. time"))
    found = log.verify()
    assert not found.holds
    (place,) = found.faults
    assert (place.file, place.fault.kind, place.fault.line, place.fault.seq) == (
        file.name,
        FaultKind.ALTERED,
        3,
        3,
    )


def test_what_is_too_long_is_told_by_its_size(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    huge = Entry(at=NOON, actor="a", action="b", target="c", after="x" * (LONGEST_VALUE + 1))
    (record,) = log.append([huge])
    assert record.after == {"omitted": f"{LONGEST_VALUE + 3} bytes"}


def test_half_of_a_character_is_kept_as_its_escape(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    log.append([Entry(at=NOON, actor="\ud800", action="b", target="c")])
    assert log.verify().holds
    assert log.newest(1)[0].actor == "\ud800"


def test_many_files_are_one_chain(tmp_path: Path) -> None:
    log = AuditLog(tmp_path, largest=600)
    for number in range(12):
        AuditLog(tmp_path, largest=600).append([entry(number)])  # as another process would
    assert len(log.files()) > 2
    found = log.verify()
    assert (found.records, found.first, found.last.seq, found.faults) == (12, 1, 12, ())
    assert [one.seq for one in log.newest(3)] == [10, 11, 12]
    assert [one.seq for one in log.newest(9, lambda one: one.seq % 5 == 0)] == [5, 10]
    log.files()[1].unlink()
    assert {one.fault.kind for one in log.verify().faults} == {FaultKind.MISPLACED}


def test_a_record_whose_writer_died_before_the_head_was_written_is_kept(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    log.append([entry(1)])
    before = (tmp_path / "head").read_bytes()
    log.append([entry(2)])
    (tmp_path / "head").write_bytes(before)
    assert log.verify().holds
    (record,) = log.append([entry(3)])
    assert record.seq == 3
    assert log.verify().faults == ()


def test_half_a_record_is_dropped_by_the_next_writer(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    log.append([entry(1)])
    (file,) = log.files()
    with file.open("ab") as out:
        out.write(b'{"seq":2,"prev":')
    found = log.verify()
    assert (found.holds, [one.fault.kind for one in found.faults]) == (True, [FaultKind.UNFINISHED])
    log.append([entry(2)])
    assert log.verify().faults == ()


def test_a_writer_that_died_between_two_files_is_followed(tmp_path: Path) -> None:
    log = AuditLog(tmp_path, largest=100)
    log.append([entry(1)])
    before = (tmp_path / "head").read_bytes()
    log.append([entry(2)])
    (tmp_path / "head").write_bytes(before)
    assert [one.seq for one in log.append([entry(3)])] == [3]
    assert log.verify().faults == ()


def test_a_head_that_power_took_back_by_several_files_is_caught_up(tmp_path: Path) -> None:
    log = AuditLog(tmp_path, largest=1000)
    log.append([entry(1)])
    before = (tmp_path / "head").read_bytes()
    for number in range(2, 12):
        log.append([entry(number)])
    assert len(log.files()) > 3
    (tmp_path / "head").write_bytes(before)
    assert log.verify().holds
    assert [one.seq for one in log.append([entry(12)])] == [12]
    assert log.verify().faults == ()
    assert log.last().seq == 12


def test_each_append_syncs_its_records_and_the_head_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fdatasync = os.fdatasync

    def spied(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fdatasync(descriptor)

    monkeypatch.setattr(audit_log.os, "fdatasync", spied)
    monkeypatch.setattr(audit_log, "HEAD_SYNC", 3600.0)
    log = AuditLog(tmp_path)
    log.append([entry(1)])
    log.append([entry(2)])
    monkeypatch.setattr(audit_log, "HEAD_SYNC", 0.0)
    log.append([entry(3)])
    file = "000000000001.jsonl"
    assert synced == [file, "head", file, file, "head"]


def _cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 10)


def _add(file: Path) -> None:
    with file.open("ab") as out:
        out.write(b"somebody was here\n")


def _blind(file: Path) -> None:
    (file.parent / "head").write_bytes(b"")


@pytest.mark.parametrize("harm", [_cut, _add, _blind, Path.unlink])
def test_a_log_that_was_tampered_with_is_not_continued(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    log = AuditLog(tmp_path)
    log.append([entry(1), entry(2)])
    (file,) = log.files()
    harm(file)
    with pytest.raises(Terminal, match="audit"):
        log.append([entry(3)])
    assert not log.verify().holds


def test_one_torn_place_of_the_head_leaves_the_other(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    log.append([entry(1)])
    log.append([entry(2)])
    content = bytearray((tmp_path / "head").read_bytes())
    content[10] ^= 1  # of record 2, whose place is the first one
    (tmp_path / "head").write_bytes(content)
    descriptor = os.open(tmp_path / "head", os.O_RDONLY)
    found = audit_head.read(descriptor)
    os.close(descriptor)
    assert found is not None
    assert found.link.seq == 1
    assert [one.seq for one in log.append([entry(3)])] == [3]


def test_a_full_disk_leaves_the_log_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AuditLog(tmp_path)
    log.append([entry(1)])
    write, written = os.pwrite, 0

    def full(descriptor: int, content: bytes, offset: int) -> int:
        nonlocal written
        written += 1
        if written > 1:
            raise OSError(28, "No space left on device")
        return write(descriptor, content[:40], offset)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(Retryable, match="No space left"):
        log.append([entry(2)])
    monkeypatch.undo()
    assert log.verify().faults == ()
    assert [one.seq for one in log.append([entry(2)])] == [2]


def test_what_is_old_goes_in_whole_files_and_the_chain_says_so(tmp_path: Path) -> None:
    log = AuditLog(tmp_path, largest=600)
    for number in range(12):
        log.append([entry(number)])
    asked = Entry(at=NOON, actor="ann", action="", target="audit")
    gone = log.prune(NOON + timedelta(days=6), asked)
    found = log.verify()
    assert (found.faults, found.first, found.records) == ((), gone + 1, 12 - gone + 1)
    assert log.newest(1)[0].action == audit_log.PRUNE
    assert log.prune(NOON, asked) == 0
    begins = json.loads((tmp_path / "base").read_text("ascii"))
    (tmp_path / "base").write_text(json.dumps({**begins, "hash": "0" * 64}), "ascii")
    assert not log.verify().holds


@pytest.mark.parametrize("older", [0, 2])
def test_a_log_that_is_taken_away_or_replaced_while_phoenix_runs_says_so(tmp_path: Path, older: int) -> None:
    """It began anew without a word, and verified."""
    log = AuditLog(tmp_path / "audit")
    if older:
        log.append([entry(number) for number in range(older)])
        shutil.copytree(tmp_path / "audit", tmp_path / "copy")
    last = log.append([entry(3), entry(4)])[-1]
    shutil.rmtree(tmp_path / "audit")
    if older:
        (tmp_path / "copy").rename(tmp_path / "audit")
    [record] = log.append([entry(5)])
    told = log.newest(2)
    assert told[-1] == record
    assert (told[0].action, told[0].before) == ("audit.lost", {"seq": last.seq, "hash": last.hash})
    assert f"ended at record {older}, and had come to {last.seq}" in told[0].reason
    log.append([entry(6)])
    assert log.verify().holds
    assert [one.action for one in log.newest(100)].count("audit.lost") == 1
