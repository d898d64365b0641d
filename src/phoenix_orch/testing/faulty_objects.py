"""An ObjectStore that fails as storage does: for tests of what is built on one.

store = FaultyObjects(FolderStore(path))
store.fault("create", Retryable("503", remedy="wait"), times=2)
store.cut_reads_at = 1000
"""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from phoenix_orch.kernel.errors import PhoenixError, Retryable
from phoenix_orch.recovery.objects import ObjectStore, Reader, Stat, Writer


class FaultyObjects:
    """Passes everything on, but for what it is told."""

    def __init__(self, behind: ObjectStore) -> None:
        self.behind = behind
        self.calls: list[tuple[str, str]] = []
        """Method and key, in order."""
        self.before: Callable[[str, str], None] = lambda _method, _key: None
        """Called before each call is passed on: to wait in (a slow store), to raise, to kill."""
        self.cut_reads_at: int | None = None
        """A reader fails for good with Retryable once it has given so many bytes."""
        self.truncate_reads_at: int | None = None
        """A reader ends early, without an error, after so many bytes."""
        self.flip_reads_at: int | None = None
        """The byte of a streamed object at this position comes with its lowest bit flipped."""
        self.fail_writes_at: int | None = None
        """A writer fails with Retryable once so many bytes would be exceeded."""
        self.lost_answers: set[str] = set()
        """Methods that do what they are to do, and then raise Retryable."""
        self.skew = timedelta(0)
        """By how much the storage's clock is ahead of the one behind."""
        self._faults: defaultdict[str, deque[PhoenixError]] = defaultdict(deque)
        self._hidden: set[str] = set()
        self._lock = threading.Lock()

    def fault(self, method: str, error: PhoenixError, *, times: int = 1) -> None:
        """The next `times` calls of `method` raise it and do nothing."""
        self._faults[method].extend([error] * times)

    def hide(self, key: str) -> None:
        """`list` does not show it yet; everything else does, as storage whose lists lag."""
        self._hidden.add(key)

    def reveal(self) -> None:
        """Lists have caught up."""
        self._hidden.clear()

    def create(self, key: str, data: bytes) -> None:
        self._call("create", key)
        self.behind.create(key, data)
        self._answer("create")

    def replace(self, key: str, data: bytes, etag: str) -> str:
        self._call("replace", key)
        new = self.behind.replace(key, data, etag)
        self._answer("replace")
        return new

    def get(self, key: str) -> tuple[bytes, Stat]:
        self._call("get", key)
        content, stat = self.behind.get(key)
        return content, self._skewed(stat)

    @contextlib.contextmanager
    def writer(self, key: str, *, estimate: int = 0) -> Iterator[Writer]:
        self._call("writer", key)
        with self.behind.writer(key, estimate=estimate) as sink:
            yield _Failing(sink, self)
        self._answer("writer")

    @contextlib.contextmanager
    def reader(self, key: str, start: int = 0, *, etag: str = "") -> Iterator[Reader]:
        self._call("reader", key)
        with self.behind.reader(key, start, etag=etag) as source:
            yield _Damaging(source, self, start)

    def stat(self, key: str) -> Stat:
        self._call("stat", key)
        return self._skewed(self.behind.stat(key))

    def list(self, prefix: str) -> Iterator[Stat]:
        self._call("list", prefix)
        for stat in self.behind.list(prefix):
            if stat.key not in self._hidden:
                yield self._skewed(stat)

    def delete(self, key: str) -> None:
        self._call("delete", key)
        self.behind.delete(key)
        self._answer("delete")

    def now(self) -> datetime:
        self._call("now", "")
        return self.behind.now() + self.skew

    def _call(self, method: str, key: str) -> None:
        with self._lock:
            self.calls.append((method, key))
            error = self._faults[method].popleft() if self._faults[method] else None
        self.before(method, key)
        if error is not None:
            raise error

    def _answer(self, method: str) -> None:
        if method in self.lost_answers:
            raise Retryable("the answer was lost", remedy="look whether it was done")

    def _skewed(self, stat: Stat) -> Stat:
        return Stat(stat.key, stat.size, stat.modified + self.skew, stat.etag)


class _Failing:
    def __init__(self, behind: Writer, faults: FaultyObjects) -> None:
        self._behind, self._faults, self._at = behind, faults, 0

    def write(self, data: bytes, /) -> int:
        most = self._faults.fail_writes_at
        if most is not None and self._at + len(data) > most:
            raise Retryable(f"the storage failed after byte {self._at}", remedy="try again")
        self._at += len(data)
        return self._behind.write(data)


class _Damaging:
    def __init__(self, behind: Reader, faults: FaultyObjects, start: int) -> None:
        self._behind, self._faults, self._at = behind, faults, start

    def read(self, size: int = -1, /) -> bytes:
        faults = self._faults
        ends = [end for end in (faults.cut_reads_at, faults.truncate_reads_at) if end is not None]
        if ends:
            left = max(0, min(ends) - self._at)
            if left == 0 and self._at >= (faults.cut_reads_at or self._at + 1):
                raise Retryable(f"the line was cut at byte {self._at}", remedy="try again")
            size = left if size < 0 else min(size, left)
            if size == 0:
                return b""
        data = self._behind.read(size)
        flip = faults.flip_reads_at
        if flip is not None and self._at <= flip < self._at + len(data):
            at = flip - self._at
            data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        self._at += len(data)
        return data
