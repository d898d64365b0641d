"""One copy, sealed into the storage, and its source let go of as early as can be.

A Redis that gives a copy keeps in memory what changes until the last byte has gone out, and an application
whose folder is copied may be at rest. With a spool they are let go of as soon as that byte lies on our disk;
the rest of the way to the storage is no concern of theirs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from phoenix_orch.recovery.backup_source import BackupSource, Facts
from phoenix_orch.recovery.keys import Recipient
from phoenix_orch.recovery.objects import ObjectStore, Stat
from phoenix_orch.recovery.pipeline import Progress, Sealed, seal
from phoenix_orch.recovery.spool import spooled

GROWTH = 2
"""Times the last copy that the next one may be, where nothing else is known."""


@dataclass(frozen=True, slots=True)
class Spooling:
    """Where sealed bytes wait for the storage, and how many at most."""

    folder: Path
    most: int


@dataclass(frozen=True, slots=True)
class Stored:
    """A copy that lies in the storage whole, under a key that nobody knows yet."""

    key: str
    name: str
    sealed: Sealed
    facts: Facts
    stat: Stat
    """As the storage has it."""


@dataclass(frozen=True, slots=True)
class Hearing:
    """Who hears how storing goes. See `publish.Told`."""

    progress: Progress
    released: Callable[[], None]
    """The source was let go of, and not all of the copy is in the storage yet."""
    warn: Callable[[str], None]
    stop: Callable[[], bool]


def stored(
    store: ObjectStore,
    source: BackupSource,
    key_of: Callable[[str], str],
    recipients: Sequence[Recipient],
    hearing: Hearing,
    *,
    level: int,
    before: int = 0,
    spooling: Spooling | None = None,
) -> Stored:
    """Capture, seal, store. `key_of`: the key for a file name. `before`: stored bytes of the last copy.

    Nothing is in the storage when this raises what the source or the storage raise, or Stopped.
    """
    with contextlib.ExitStack() as behind:
        with source.capture() as capture:
            key = key_of(capture.name)
            sink = behind.enter_context(store.writer(key, estimate=expected(capture.estimate, before)))
            if spooling is not None:
                sink = behind.enter_context(
                    spooled(sink, spooling.folder, spooling.most, warn=hearing.warn, stop=hearing.stop)
                )
            sealed = seal(
                capture, sink, recipients, level=level, progress=hearing.progress, stop=hearing.stop
            )
            facts = capture.facts()
            name = capture.name
        hearing.released()
    return Stored(key, name, sealed, facts, store.stat(key))


def expected(estimate: int, before: int) -> int:
    """Stored bytes to make room for: what the source thinks that it has, or more than there was; 0: unknown.

    Sealing adds little and mostly takes away, so that either may only be too much.
    """
    return max(estimate + estimate // 50, before * GROWTH)
