"""Looks at backups: is it there, is it what was stored, does it open, is it what it should be.

Each look says how far it came. What says nothing of the backup itself (the store is away, the key is another
one) is raised and recorded nowhere.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from phoenix_orch.kernel.errors import BadState, NotFound
from phoenix_orch.kernel.ids import sortable_id
from phoenix_orch.recovery.errors import Corrupted, Stopped
from phoenix_orch.recovery.keys import Identity
from phoenix_orch.recovery.layout import Scope
from phoenix_orch.recovery.manifest import Level, Manifest, Verification, encoded
from phoenix_orch.recovery.objects import ObjectStore
from phoenix_orch.recovery.pipeline import CHUNK, Sealed, unseal
from phoenix_orch.recovery.signing import Signer

Progress = Callable[[int], None]


class Examination(Protocol):
    """One copy that is examined while it is opened."""

    def write(self, data: bytes, /) -> int: ...

    def finish(self) -> str:
        """After the last byte, whose digest held: what was found, in a line. Raises Corrupted."""
        ...

    def found(self) -> dict[str, Any]:
        """After `finish`: what was counted, for the record. JSON values, none of them a secret."""
        ...


class Structural(Protocol):
    """Knows what a copy of one kind has to look like; each kind of component has its own."""

    level: Level
    """STRUCTURE or above."""

    def tools(self) -> dict[str, str]:
        """What it uses, with versions."""
        ...

    def examine(self, manifest: Manifest) -> AbstractContextManager[Examination]: ...


class _Nothing:
    """Opens a copy for its digest alone."""

    def write(self, data: bytes, /) -> int:
        return len(data)

    def finish(self) -> str:
        return "opened; the digest of its content holds"

    def found(self) -> dict[str, Any]:
        return {}


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one look has come to."""

    level: Level
    passed: bool
    detail: str
    read: int = 0
    found: dict[str, Any] = field(default_factory=dict)


def expected(manifest: Manifest) -> Sealed:
    stream = manifest.stream
    return Sealed(stream.raw_bytes, stream.raw_sha256, stream.stored_bytes, stream.stored_sha256)


class Verifier:
    """Looks at backups in one store."""

    def __init__(
        self, store: ObjectStore, identities: Sequence[Identity], now: Callable[[], datetime], by: str
    ) -> None:
        """`identities`: none, and nothing can be opened. `by`: who looks."""
        self._store = store
        self._identities = identities
        self._now = now
        self._by = by

    @property
    def highest(self) -> Level:
        """What can be done here without a tool for the content."""
        return Level.OPENED if self._identities else Level.STORED

    def look(
        self,
        manifest: Manifest,
        sha256: str,
        level: Level,
        *,
        structural: Structural | None = None,
        progress: Progress = lambda _: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Verification:
        """Look up to `level`; from STRUCTURE on with `structural`, whose level is the one that counts.

        `progress`: bytes of what is stored (STORED) or of the content (above), so far.
        Raises BadState where that cannot be done here, Stopped, and what the store raises.
        """
        if level >= Level.OPENED and not self._identities:
            raise BadState(
                "there is no private key here to open backups with",
                remedy="name its file as backup.identityFile, or verify at level 1",
            )
        begun = time.monotonic()
        seen = self._looked(manifest, level, structural, progress, stop)
        return Verification(
            backup=manifest.id,
            manifest=sha256,
            level=seen.level,
            passed=seen.passed,
            at=self._now(),
            by=self._by,
            detail=seen.detail,
            seconds=round(time.monotonic() - begun, 3),
            bytes=seen.read,
            tools=structural.tools() if structural is not None else {},
            found=seen.found,
        )

    def _looked(
        self,
        manifest: Manifest,
        level: Level,
        structural: Structural | None,
        progress: Progress,
        stop: Callable[[], bool],
    ) -> _Seen:
        stream = manifest.stream
        try:
            size = self._store.stat(stream.key).size
        except NotFound:
            return _Seen(Level.PRESENT, False, "the data is gone")
        if size != stream.stored_bytes:
            return _Seen(Level.PRESENT, False, f"the data has {size} bytes, and had {stream.stored_bytes}")
        if level is Level.PRESENT:
            return _Seen(level, True, f"{size} bytes are there")
        try:
            if level is Level.STORED:
                return _Seen(level, *self._stored(manifest, progress, stop), size)
            return self._opened(manifest, structural, progress, stop, size)
        except NotFound:
            return _Seen(Level.PRESENT, False, "the data is gone")

    def _stored(self, manifest: Manifest, progress: Progress, stop: Callable[[], bool]) -> tuple[bool, str]:
        found, seen = hashlib.sha256(), 0
        with self._store.reader(manifest.stream.key) as reader:
            while chunk := reader.read(CHUNK):
                if stop():
                    raise Stopped("stopped; nothing was recorded", remedy="start it again when you like")
                found.update(chunk)
                seen += len(chunk)
                progress(seen)
        if found.hexdigest() == manifest.stream.stored_sha256:
            return True, "the digest of what is stored holds"
        return False, f"what is stored is not what was written: its SHA-256 is {found.hexdigest()[:16]}…"

    def _opened(
        self,
        manifest: Manifest,
        structural: Structural | None,
        progress: Progress,
        stop: Callable[[], bool],
        size: int,
    ) -> _Seen:
        level = Level.OPENED
        try:
            with self._store.reader(manifest.stream.key) as reader:
                if structural is None:
                    sink = _Nothing()
                    unseal(reader, sink, self._identities, expected(manifest), progress=progress, stop=stop)
                    return _Seen(level, True, sink.finish(), size)
                with structural.examine(manifest) as examination:
                    unseal(
                        reader,
                        examination,
                        self._identities,
                        expected(manifest),
                        progress=progress,
                        stop=stop,
                    )
                    level = structural.level
                    return _Seen(level, True, examination.finish(), size, examination.found())
        except Corrupted as error:
            if level is Level.OPENED and not self._stored(manifest, lambda _: None, stop)[0]:
                level = Level.STORED
            return _Seen(level, False, error.message, size)


def record_look(store: ObjectStore, scope: Scope, look: Verification, signer: Signer) -> str:
    """Put the look beside its backup; its key."""
    key = scope.record(look.backup, f"verified-{sortable_id(look.at)}")
    store.create(key, encoded(look, signer))
    return key


def turn(id: str, number: int, turns: int) -> bool:  # noqa: A002 - the field's word
    """Whether a backup is looked at in turn `number` of `turns`: each is in exactly one, always the same."""
    return int(hashlib.sha256(id.encode()).hexdigest()[:8], 16) % turns == number % turns
