"""Leases for tests, without waiting: each holder gets a number above all before it, and the last one holds.

So a run that was thought dead can go on beside the next one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from phoenix_orch.kernel.errors import Conflict, NotFound
from phoenix_orch.recovery.objects import ObjectStore


@dataclass(slots=True)
class Generation:
    """Implements `publish.Fence`."""

    store: ObjectStore
    key: str
    generation: int

    def check(self) -> None:
        """Raises Conflict when somebody else has begun since."""
        if int(self.store.get(self.key)[0]) != self.generation:
            raise Conflict("another run has begun meanwhile, and goes on in place of this one")

    def outgrow(self, generation: int) -> None:
        """Count on from there."""
        if self.generation > generation:
            return
        self.check()
        self.store.replace(self.key, str(generation + 1).encode(), self.store.stat(self.key).etag)
        self.generation = generation + 1


@dataclass(frozen=True, slots=True)
class Generations:
    """Implements `publish.Leases`."""

    store: ObjectStore

    @contextlib.contextmanager
    def __call__(self, key: str) -> Iterator[Generation]:
        """Raises Conflict where another one began at the same moment."""
        try:
            raw, stat = self.store.get(key)
        except NotFound:
            self.store.create(key, b"1")
            yield Generation(self.store, key, 1)
            return
        generation = int(raw) + 1
        self.store.replace(key, str(generation).encode(), stat.etag)
        yield Generation(self.store, key, generation)
