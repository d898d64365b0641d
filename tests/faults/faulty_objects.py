"""A store of objects of which one call fails: before it did anything, or after, so that no answer comes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from phoenix_orch.kernel.errors import Retryable
from phoenix_orch.recovery.objects import ObjectStore, Reader, Stat, Writer


@dataclass
class FaultyStore:
    """`fails`: number of the call that fails, from 0; -1: none. `late`: after it was done."""

    store: ObjectStore
    fails: int = -1
    late: bool = False
    calls: list[tuple[str, str]] = field(default_factory=list)
    """What was called, and with which key."""

    @contextlib.contextmanager
    def _call(self, name: str, key: str) -> Iterator[None]:
        number = len(self.calls)
        self.calls.append((name, key))
        error = Retryable(f"the store is away: {name}")
        if number == self.fails and not self.late:
            raise error
        yield
        if number == self.fails:
            raise error

    def create(self, key: str, data: bytes) -> None:
        with self._call("create", key):
            self.store.create(key, data)

    def replace(self, key: str, data: bytes, etag: str) -> str:
        with self._call("replace", key):
            return self.store.replace(key, data, etag)
        raise AssertionError

    def get(self, key: str) -> tuple[bytes, Stat]:
        with self._call("get", key):
            return self.store.get(key)
        raise AssertionError

    @contextlib.contextmanager
    def writer(self, key: str, *, estimate: int = 0) -> Iterator[Writer]:
        with self._call("writer", key), self.store.writer(key, estimate=estimate) as sink:
            yield _Part(self, sink, key)

    @contextlib.contextmanager
    def reader(self, key: str, start: int = 0, *, etag: str = "") -> Iterator[Reader]:
        with self._call("reader", key), self.store.reader(key, start, etag=etag) as source:
            yield _Part(self, source, key)

    def stat(self, key: str) -> Stat:
        with self._call("stat", key):
            return self.store.stat(key)
        raise AssertionError

    def list(self, prefix: str) -> Iterator[Stat]:
        with self._call("list", prefix):
            found = list(self.store.list(prefix))
        return iter(found)

    def delete(self, key: str) -> None:
        with self._call("delete", key):
            self.store.delete(key)

    def now(self) -> datetime:
        with self._call("now", ""):
            return self.store.now()
        raise AssertionError


@dataclass
class _Part:
    """A reader or writer of which every call counts."""

    faulty: FaultyStore
    inner: Any
    key: str

    def read(self, size: int = -1, /) -> bytes:
        with self.faulty._call("read", self.key):
            return bytes(self.inner.read(size))
        raise AssertionError

    def write(self, data: bytes, /) -> int:
        with self.faulty._call("write", self.key):
            return int(self.inner.write(data))
        raise AssertionError
