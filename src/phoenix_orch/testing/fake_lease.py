"""Leases for tests: everybody gets one at once, with a generation above all before; the last one holds."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from phoenix_orch.kernel.errors import Conflict, NotFound
from phoenix_orch.recovery.objects import ObjectStore


@dataclass(frozen=True, slots=True)
class FakeFence:
    """Implements Fence."""

    store: ObjectStore
    key: str
    generation: int

    def check(self) -> None:
        if int(self.store.get(self.key)[0]) != self.generation:
            raise Conflict("another run holds the lease by now")


@dataclass(frozen=True, slots=True)
class FakeLeases:
    """Implements Leases; nobody waits, so that a run that was thought dead can go on beside the next one."""

    store: ObjectStore

    @contextlib.contextmanager
    def __call__(self, key: str) -> Iterator[FakeFence]:
        try:
            raw, stat = self.store.get(key)
        except NotFound:
            self.store.create(key, b"1")
            yield FakeFence(self.store, key, 1)
            return
        generation = int(raw) + 1
        self.store.replace(key, str(generation).encode(), stat.etag)
        yield FakeFence(self.store, key, generation)
