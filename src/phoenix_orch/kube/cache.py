"""The objects of one selection in memory, kept current by a `Reflector`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from time import monotonic

import structlog

from phoenix_orch.kernel.errors import PhoenixError
from phoenix_orch.kube.client import Selection
from phoenix_orch.kube.resources import Key, Object, older, version_of
from phoenix_orch.kube.snapshot import Snapshot

Handler = Callable[[Key], None]
"""Told that something about this object may have changed; quick, and without waiting. What the object
is now is read from the cache: how it came there, and how often it changed, is not told."""


class Cache:
    """What is known of the objects of one selection. Read only: what it gives must not be changed."""

    def __init__(self, selection: Selection, *, clock: Callable[[], float] = monotonic) -> None:
        self.selection = selection
        self.version = ""
        """The moment that is shown, as a resourceVersion; empty before the first list."""
        self.fault: PhoenixError | None = None
        """Why it cannot be kept current at the moment."""
        self._clock = clock
        self._snapshot = Snapshot()
        self._handlers: list[Handler] = []
        self._synced = asyncio.Event()
        self._current_at: float | None = None
        self._waiting: set[asyncio.Event] = set()
        self._log = structlog.get_logger("phoenix.kube").bind(watch=str(selection.resource))

    def get(self, name: str, namespace: str = "") -> Object | None:
        return self._snapshot.objects.get(Key(namespace, name))

    def __len__(self) -> int:
        return len(self._snapshot.objects)

    def __iter__(self) -> Iterator[Object]:
        return iter(list(self._snapshot.objects.values()))

    def keys(self) -> list[Key]:
        return list(self._snapshot.objects)

    @property
    def is_synced(self) -> bool:
        """Whether everything was listed once. It stays so; look at `age` for how current it is."""
        return self._synced.is_set()

    async def synced(self) -> None:
        """Wait until everything was listed once."""
        await self._synced.wait()

    def age(self) -> float | None:
        """Seconds since it was last known to be current; None before the first list.

        While the watch works it stays below about a minute, in which the API server sends a bookmark
        when nothing else; for the few kinds it sends none for, below `Timing.silence`.
        """
        return None if self._current_at is None else self._clock() - self._current_at

    async def shows(self, written: Object) -> None:
        """Wait until it shows `written`, as a write gave it back, or something newer."""
        version = version_of(written)
        while not self._reached(version):
            changed = asyncio.Event()
            self._waiting.add(changed)
            try:
                await changed.wait()
            finally:
                self._waiting.discard(changed)

    def subscribe(self, handler: Handler) -> Callable[[], None]:
        """Tell `handler` of every object there is, and then of those that change. Gives the way to stop."""
        self._handlers.append(handler)
        for key in self.keys():
            self._tell_one(handler, key)
        return lambda: self._handlers.remove(handler)

    # what the reflector says

    @property
    def snapshot(self) -> Snapshot:
        return self._snapshot

    def replaced(self, listed: dict[Key, Object], version: str, asked_at: float) -> None:
        """All there was at `version`, asked for at `asked_at`."""
        changed = self._snapshot.replace(listed)
        self._now_at(version, asked_at)
        self._synced.set()
        self.tell(changed)

    def put(self, found: Object) -> None:
        self._now_at(version_of(found), self._clock())
        self.tell([key] if (key := self._snapshot.put(found)) else [])

    def removed(self, found: Object) -> None:
        self._now_at(version_of(found), self._clock())
        self.tell([key] if (key := self._snapshot.remove(found)) else [])

    def nothing_until(self, version: str) -> None:
        self._now_at(version, self._clock())

    def proven(self, asked_at: float) -> None:
        """A list showed the same."""
        self._current_at = max(self._current_at or asked_at, asked_at)

    def tell(self, keys: Iterable[Key]) -> None:
        for key in keys:
            for handler in tuple(self._handlers):
                self._tell_one(handler, key)

    def _tell_one(self, handler: Handler, key: Key) -> None:
        try:
            handler(key)
        except Exception:  # noqa: BLE001 - one reader's defect takes nothing from the others
            self._log.exception("a handler failed", key=str(key))

    def _now_at(self, version: str, moment: float) -> None:
        self.version = version
        self._current_at = max(self._current_at or moment, moment)
        for waiting in self._waiting:
            waiting.set()

    def _reached(self, version: str) -> bool:
        if self.version.isdecimal() and version.isdecimal():
            return not older(self.version, version)
        return self.version == version
