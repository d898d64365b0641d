"""The audit log of one data directory: files of records, appended durably by any number of processes.

    audit/000000000001.jsonl     records 1 and up; a new file begins when this one is full
    audit/head                   how far it has come (`audit_head.py`)
    audit/base                   where it begins, once the oldest files were removed
    audit/lock                   held by who appends

A record is told of only when it is on the disk. The head follows it, and is synced once a second at most:
where power fails before, the next writer finds the records after it and keeps them. Half a record, whose
writer died, is dropped: nobody was told of it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Protocol

from phoenix_orch.kernel.errors import Invalid, Retryable, Terminal
from phoenix_orch.runtime.files import make_private
from phoenix_orch.security import audit_head
from phoenix_orch.security.audit_chain import (
    GENESIS,
    Entry,
    Fault,
    FaultKind,
    Link,
    Record,
    Walk,
    decoded,
    encoded,
)
from phoenix_orch.security.audit_head import Head

LARGEST_FILE = 8 * 2**20
"""Bytes after which a new file begins."""
HEAD_SYNC = 1.0
"""Seconds after which an append waits for the head to be on the disk, too. What is told of is in the records,
which always are: a second sync for each append would halve the speed and save no record."""
PRUNE = "audit.prune"
LOST = "audit.lost"
_NAME = "{:012d}.jsonl"


@dataclass(frozen=True, slots=True)
class Place:
    """A fault, and in which file it is."""

    file: str
    fault: Fault


@dataclass(frozen=True, slots=True)
class Verified:
    """What a walk over everything has found."""

    records: int
    first: int
    """Number of the oldest record that is kept."""
    last: Link
    faults: tuple[Place, ...] = ()

    @property
    def holds(self) -> bool:
        """Everything that anybody was told of is there, as it was written. Half a record at the end, whose
        writer died, is none."""
        return all(one.fault.kind is FaultKind.UNFINISHED for one in self.faults)


class AuditRecords(Protocol):
    """Where records are kept: the files of a machine, or a store that replicas share. Its calls block."""

    def append(self, entries: Sequence[Entry]) -> list[Record]: ...

    def prune(self, before: datetime, entry: Entry) -> int: ...

    def prunable(self, before: datetime) -> int: ...

    def newest(
        self,
        limit: int,
        wanted: Callable[[Record], bool] = ...,
        *,
        before: int | None = None,
    ) -> list[Record]: ...

    def after(self, seq: int) -> Iterator[Record]: ...

    def last(self) -> Link: ...

    def verify(self, noted: Link | None = None) -> Verified: ...


class AuditLog:
    """Calls block for as long as a disk takes: not for an event loop."""

    def __init__(self, directory: Path, *, largest: int = LARGEST_FILE) -> None:
        self._directory = directory
        self._largest = largest
        self._synced = float("-inf")
        self._told = GENESIS
        """The last record that this process has appended."""

    # -- writing -----------------------------------------------------------------------------------

    def append(self, entries: Sequence[Entry]) -> list[Record]:
        """On the disk when it returns, in this order and beside each other.

        Raises Retryable where the disk does not take them (then none of them is there, or, where the disk
        failed at the very last write, all of them), Terminal where the log is not one to be continued: what
        was written last is no longer there.
        """
        try:
            make_private(self._directory)
            with self._alone() as head_file:
                return self._append(head_file, entries)
        except OSError as error:
            raise Retryable(
                f"the audit log {self._directory} cannot be written: {error.strerror}",
                remedy="make room on its disk, or mend its rights: what changes something is recorded first",
            ) from error

    def _append(self, head_file: int, entries: Sequence[Entry]) -> list[Record]:
        head = self._continued(head_file)
        if head.size >= self._largest:
            head = Head(head.link, head.link.seq + 1, 0)
        link, lines = head.link, list[bytes]()
        missing = self._missing(head.link, entries)
        for entry in (*missing, *entries):
            line, link = encoded(entry, link)
            lines.append(line)
        size = self._write(head, b"".join(lines))
        now = time.monotonic()
        due = now - self._synced >= HEAD_SYNC
        audit_head.write(head_file, Head(link, head.first, size), durably=due)
        if due:
            self._synced = now
        self._told = link
        return [decoded(line) for line in lines[len(missing) :]]

    def _missing(self, link: Link, entries: Sequence[Entry]) -> list[Entry]:
        """What tells that the log ends before what this process has appended: somebody took it away, or put
        an older one in its place. It goes on, since changes have to be recorded, and says so."""
        told = self._told
        if link.seq >= told.seq:
            return []
        reason = f"the log was removed or replaced: it ended at record {link.seq}, and had come to {told.seq}"
        return [
            Entry(
                at=entries[0].at,
                actor="phoenix",
                action=LOST,
                target="audit",
                reason=reason,
                before={"seq": told.seq, "hash": told.hash},
            )
        ]

    def _write(self, head: Head, content: bytes) -> int:
        """The new size. What does not fit leaves the file as it was."""
        descriptor = os.open(self._file(head.first), os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            with _as_before(descriptor, head.size):
                rest = memoryview(content)
                while rest:
                    rest = rest[os.pwrite(descriptor, rest, head.size + len(content) - len(rest)) :]
                os.fdatasync(descriptor)
            if head.size == 0:
                _sync_directory(self._directory)
        finally:
            os.close(descriptor)
        return head.size + len(content)

    def _continued(self, head_file: int) -> Head:
        """The head, with what a process that died has appended after it."""
        head = audit_head.read(head_file)
        if head is None:
            if self.files():
                raise Terminal(
                    f"{self._directory / 'head'} cannot be read, and there are records",
                    remedy="`phoenix audit verify` tells how far they hold; keep the directory, move it away",
                )
            head = Head()
        while True:
            head = self._completed(head)
            following = head.link.seq + 1
            if following == head.first or not self._file(following).exists():
                return head
            head = Head(head.link, following, 0)  # it died after it had begun a new file

    def _completed(self, head: Head) -> Head:
        """With all records of the head's file."""
        path = self._file(head.first)
        there = path.stat().st_size if path.exists() else 0
        if there < head.size:
            raise Terminal(
                f"{path} has {there} bytes, and had {head.size}: the end of the audit log is missing",
                remedy="`phoenix audit verify` tells what is left; keep the directory, and move it away",
            )
        if there == head.size:
            return head
        with path.open("rb") as file:
            file.seek(head.size)
            rest = file.read()
        whole = rest[: rest.rfind(b"\n") + 1]
        walk = Walk(head.link)
        walk.over(whole.splitlines(keepends=True))
        if walk.faults:
            raise Terminal(
                f"{path} goes on after record {head.link.seq} with what is no record",
                remedy="`phoenix audit verify` tells where; keep the directory, and move it away",
            )
        os.truncate(path, head.size + len(whole))
        return Head(walk.link, head.first, head.size + len(whole))

    def prune(self, before: datetime, entry: Entry) -> int:
        """Remove the oldest files of which every record is older; the number of records that went.

        `entry` says who asks, and is recorded with where the log begins then. The newest file stays.
        """
        old = self._older(before)
        if not old:
            return 0
        last = _last(old[-1])
        begins = {"seq": last.seq, "hash": last.hash}
        self.append([replace(entry, action=PRUNE, after={"begins": begins})])
        first = int(self.files()[0].stem)
        with self._alone() as head_file:
            os.fsync(head_file)  # a head that power took back would name a file that is gone
            _write_whole(self._base, json.dumps(begins))
            for file in old:
                file.unlink(missing_ok=True)  # two may prune
            _sync_directory(self._directory)
        return last.seq - first + 1

    def prunable(self, before: datetime) -> int:
        """How many records `prune` would remove."""
        old = self._older(before)
        return _last(old[-1]).seq - int(old[0].stem) + 1 if old else 0

    def _older(self, before: datetime) -> list[Path]:
        """The files of which every record is older, but the newest one. Raises Terminal for one that cannot
        be read."""
        old: list[Path] = []
        for file in self.files()[:-1]:
            if _last(file).at >= before:
                break
            old.append(file)
        return old

    # -- reading -----------------------------------------------------------------------------------

    def newest(
        self,
        limit: int,
        wanted: Callable[[Record], bool] = lambda _: True,
        *,
        before: int | None = None,
    ) -> list[Record]:
        """The newest `limit` records that are wanted, of those with a number below `before`; oldest first."""
        found: list[Record] = []
        for file in reversed(self.files()):
            if before is not None and int(file.stem) >= before:
                continue
            for line in reversed(_lines(file)):
                record = _readable(line)
                if record is not None and (before is None or record.seq < before) and wanted(record):
                    found.append(record)
                    if len(found) == limit:
                        return found[::-1]
        return found[::-1]

    def after(self, seq: int) -> Iterator[Record]:
        """All records with a higher number that can be read, oldest first; memory for one file at a time."""
        files = self.files()
        begun = [file for file in files if int(file.stem) <= seq + 1]
        for file in files[max(0, len(begun) - 1) :]:
            for line in _lines(file):
                record = _readable(line)
                if record is not None and record.seq > seq:
                    yield record

    def last(self) -> Link:
        """The end of what was appended and told. Raises Terminal where it cannot be read."""
        head = self._head()
        if head is None and self.files():
            raise Terminal(
                f"{self._directory / 'head'} cannot be read, and there are records",
                remedy="`phoenix audit verify` tells how far they hold",
            )
        return head.link if head is not None else GENESIS

    def verify(self, noted: Link | None = None) -> Verified:
        """Walk over everything there is; others may append meanwhile.

        `noted`: a number and hash that were noted elsewhere earlier, and have to be in it. Raises Invalid
        where that was pruned.
        """
        head = self._head()  # before the records: what is appended from now on is more, and never less
        base = self._begins()
        if noted is not None and noted.seq < base.seq:
            raise Invalid(
                f"record {noted.seq} is older than the oldest one that is kept, {base.seq + 1}",
                remedy="give a head that was noted later",
            )
        kept = [file for file in self.files() if int(file.stem) > base.seq]
        walk, places = Walk(base, noted=noted), list[Place]()
        for file in kept:
            before = len(walk.faults)
            try:
                with file.open("rb") as lines:
                    walk.over(lines)
            except FileNotFoundError:
                if self._begins() != base:  # pruned meanwhile
                    return self.verify(noted)
                raise
            places += [Place(file.name, fault) for fault in walk.faults[before:]]
        before = len(walk.faults)
        walk.contains_noted()
        if head is None and kept:
            walk.faults.append(Fault(FaultKind.CUT, 0, walk.link.seq + 1, "how far it went is not known"))
        elif head is not None:
            walk.ends_at(head.link)
        if base != GENESIS and not self._says(base):
            walk.faults.append(Fault(FaultKind.CUT, 0, base.seq, "no record says that the older ones may go"))
        places += [Place("head", fault) for fault in walk.faults[before:]]
        return Verified(walk.records, base.seq + 1, walk.link, tuple(places))

    def _says(self, base: Link) -> bool:
        begins = {"seq": base.seq, "hash": base.hash}
        return bool(self.newest(1, lambda one: one.action == PRUNE and one.after == {"begins": begins}))

    def files(self) -> list[Path]:
        """The oldest first."""
        return sorted(self._directory.glob("[0-9]" * 12 + ".jsonl"))

    def _file(self, first: int) -> Path:
        return self._directory / _NAME.format(first)

    @property
    def _base(self) -> Path:
        return self._directory / "base"

    def _begins(self) -> Link:
        """The record before the first one."""
        try:
            found = json.loads(self._base.read_bytes())
            return Link(int(found["seq"]), str(found["hash"]))
        except (FileNotFoundError, NotADirectoryError):
            return GENESIS
        except (ValueError, KeyError, TypeError):
            return GENESIS  # the walk finds that the first file does not follow it

    def _head(self) -> Head | None:
        try:
            descriptor = os.open(self._directory / "head", os.O_RDONLY)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            return audit_head.read(descriptor)
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[int]:
        """The only one that writes; the descriptor of the head."""
        with contextlib.ExitStack() as stack:
            for name in ("lock", "head"):
                descriptor = os.open(self._directory / name, os.O_RDWR | os.O_CREAT, 0o600)
                stack.callback(os.close, descriptor)
                if name == "lock":
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor


@contextlib.contextmanager
def _as_before(descriptor: int, size: int) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, size)
        raise


def _lines(file: Path) -> list[bytes]:
    """Of a file that may have been pruned meanwhile. Only a line feed ends a line."""
    try:
        return file.read_bytes().removesuffix(b"\n").split(b"\n")
    except FileNotFoundError:
        return []


def _readable(line: bytes) -> Record | None:
    """None for what is no record: `verify` tells of it."""
    try:
        return decoded(line)
    except (ValueError, KeyError, TypeError):
        return None


def _last(file: Path) -> Record:
    record = _readable(_lines(file)[-1])
    if record is None:
        raise Terminal(
            f"the last record of {file} cannot be read", remedy="`phoenix audit verify` tells what is wrong"
        )
    return record


def _write_whole(path: Path, text: str) -> None:
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
