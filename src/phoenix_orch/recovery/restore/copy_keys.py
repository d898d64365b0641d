"""The keys of one copy or several, as if they were one stream: of each copy those of its slots."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from phoenix_orch.recovery.keys import Identity
from phoenix_orch.recovery.objects import ObjectStore
from phoenix_orch.recovery.rdb_walk import Key, Library, walk
from phoenix_orch.recovery.reading import content
from phoenix_orch.recovery.restore.copies import Taken
from phoenix_orch.recovery.restore.redis_keys import Selection, chosen
from phoenix_orch.recovery.restore.slot_owners import slot_of


@dataclass(frozen=True, slots=True)
class Copies:
    """Reads from the storage each time anew, in constant memory.

    Once a copy was read to its end, and so is proven, it is never read as another object: what goes into
    servers as it comes is what was proven.
    """

    store: ObjectStore
    identities: Sequence[Identity]
    taken: Sequence[Taken]
    progress: Callable[[int], None] = lambda _: None
    """Bytes of the content that were read, of all of them."""
    proven: dict[str, str] = field(default_factory=dict)
    """Keys of the storage, and the etags that they had when the content was proven."""

    @property
    def bytes(self) -> int:
        return sum(one.backup.manifest.stream.raw_bytes for one in self.taken)

    def keys(self, selection: Selection, *, values: bool = True) -> Iterator[Key]:
        """Those that are meant. Its end is reached when every copy was whole. Raises PhoenixError."""
        yield from chosen(self._items(values=values), selection)

    def everything(self, *, values: bool = True) -> Iterator[Key | Library]:
        """Keys of every database, and the code of functions, which each copy has."""
        for one in self._items(values=values):
            if isinstance(one, Key | Library):
                yield one

    def _read(self, before: int, count: int) -> None:
        self.progress(before + count)

    def _items(self, *, values: bool) -> Iterator[object]:
        before = 0
        for one in self.taken:
            manifest, start = one.backup.manifest, before
            reading, key = functools.partial(self._read, start), manifest.stream.key
            etag = self.proven.get(key) or self.store.stat(key).etag
            with content(self.store, manifest, self.identities, etag=etag, progress=reading) as dump:
                for item in walk(dump.read, values=values):
                    if one.whole or not isinstance(item, Key) or _within(one, slot_of(item.name)):
                        yield item
            self.proven[key] = etag
            before += manifest.stream.raw_bytes


def _within(taken: Taken, slot: int) -> bool:
    return any(first <= slot <= last for first, last in taken.slots)
