"""Where backups are kept: a flat map of keys to bytes, as S3 has it. Pure: protocols and names.

All of it blocks, and is called from worker threads. Every method may raise, besides what it names:

- Retryable: the store is away, slow or full; the same call may succeed later. The store has already tried
  again within its budget.
- Terminal: it will not work as it is configured: no such bucket, access denied, clock skew, certificate.
- Invalid: the key is not one (`checked`).

Errors name the bucket or folder and the key, say what to do, and hold no secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.recovery.errors import Corrupted

LARGEST_SMALL = 16 * 1024 * 1024
"""Bytes of the largest object that `create`, `replace` and `get` take; others are streamed."""
LONGEST_KEY = 900
"""Characters. S3 allows 1024 bytes, a part of which a configured prefix may need."""
_KEY = re.compile(r"[A-Za-z0-9_=@+-][A-Za-z0-9._=@+-]*(/[A-Za-z0-9_=@+-][A-Za-z0-9._=@+-]*)*")
_PARTS = re.compile(r'"?[0-9a-f]{32}-([1-9][0-9]{0,4})"?')
_LONGEST_NAME = 200  # a file name has at most 255 bytes


@dataclass(frozen=True, slots=True)
class Stat:
    """What a store knows of an object without reading it."""

    key: str
    size: int
    """Bytes."""
    modified: datetime
    """UTC, by the storage's clock; S3 gives whole seconds."""
    etag: str
    """Another one after each write; for `replace`, and to be told."""
    version: str = ""
    """In a bucket that keeps versions, by `stat` and `get`; empty elsewhere."""

    @property
    def parts(self) -> int | None:
        """In how many pieces it was uploaded, as S3 tells by the ETag; None: at once, or it does not say."""
        found = _PARTS.fullmatch(self.etag)
        return int(found[1]) if found else None


class Reader(Protocol):
    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes, all that is left for -1; b"" at the end and only there."""


class Writer(Protocol):
    def write(self, data: bytes, /) -> int:
        """Take all of `data`; how many bytes that were."""


class ObjectStore(Protocol):
    def create(self, key: str, data: bytes) -> None:
        """Write a small object that must not be there yet. Whole or not at all.

        Raises Conflict when it is there, whoever made it: after a lost answer that may have been this very
        call, so a caller who must know reads it back and compares.
        """

    def replace(self, key: str, data: bytes, etag: str) -> str:
        """Write over a small object that still has this `etag`; its new etag.

        Raises Conflict when it was written or removed since, and never writes then.
        """

    def get(self, key: str) -> tuple[bytes, Stat]:
        """All of a small object. Raises NotFound; Corrupted when it is larger than `LARGEST_SMALL`, which
        `create` and `replace` write none of."""

    def writer(self, key: str, *, estimate: int = 0) -> AbstractContextManager[Writer]:
        """Write an object of any size in constant memory; it is there when the block has ended well.

        Left by an exception, there is no object, and nothing that takes up room. Ended by a kill, there is
        no object, and at most what `unfinished` lists. `estimate`: bytes to be expected, 0 for unknown (up to
        84 GB then); half as many more get through. An object that is there already is replaced: give every
        write a key of its own.
        """

    def reader(self, key: str, start: int = 0, *, etag: str = "") -> AbstractContextManager[Reader]:
        """Read from byte `start`, b"" when that is the end or past it. Raises NotFound on entry.

        `etag`: what it has to have still, where that matters; Conflict is raised where it has another one.
        After a reset or a body that ends early it goes on where it was. Raises Conflict when the object was
        replaced meanwhile, so that no two are mixed.
        """

    def stat(self, key: str) -> Stat:
        """Raises NotFound."""

    def list(self, prefix: str) -> Iterator[Stat]:
        """All objects whose key begins with `prefix`. Read page by page while it is gone through.

        Of a folder and of S3 they come by key; others that speak like S3 go folder by folder. What somebody
        has put there under a name that is no key is left out.
        """

    def delete(self, key: str) -> None:
        """No error when it is gone."""

    def now(self) -> datetime:
        """UTC by the storage's clock, to a second: the one that `Stat.modified` is told by."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What a killed writer has left: it takes up room, and no reader sees it."""

    key: str
    """Of the object that was to be; of a long one the beginning, at least 200 characters."""
    id: str
    begun: datetime
    """UTC, by the storage's clock."""


class Upkeep(Protocol):
    """What has to be tidied up in a store. `storage.opened` gives it with the store."""

    def unfinished(self) -> Iterator[Unfinished]:
        """Writes that were begun and neither ended nor given up, those of running writers among them."""

    def abort(self, left: Unfinished) -> None:
        """Give the room back. No error when it is gone. A writer that still runs fails by it."""


def too_large(called: str, size: int) -> Corrupted:
    """For an object that ought to be a small one."""
    return Corrupted(
        f"{called} has {size:,} bytes, and nothing of that name has so many",
        remedy="something else wrote it: see what, and remove it",
    )


def is_key(key: str) -> bool:
    """Whether every store can hold it: see `checked`."""
    return (
        len(key) <= LONGEST_KEY
        and _KEY.fullmatch(key) is not None
        and all(len(part) <= _LONGEST_NAME for part in key.split("/"))
    )


def checked(key: str) -> str:
    """`key`, when every store can hold it as it is. Raises Invalid.

    Segments of letters, digits and `._=@+-`, not begun by a point, between single slashes: such a key is the
    same in a URL, in a signature and as a path of files.
    """
    if not is_key(key):
        raise Invalid(
            f"{key[:200]!r} is no key of an object",
            remedy="segments of at most 200 letters, digits and ._=@+- not begun by a point, "
            "with single slashes between them",
        )
    return key
