"""What is backed up, as the rest of recovery sees it: something that gives one copy as a stream of bytes."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a copy once its last byte was read. All values are JSON values and none is a secret:
    they stand in the manifest in the clear."""

    consistency_point: datetime
    """The moment whose state the copy holds, in UTC: what came later is lost when it is restored."""
    engine: dict[str, Any] = field(default_factory=dict)
    """Name and version of what wrote it, format of the copy, modules."""
    content: dict[str, Any] = field(default_factory=dict)
    """What is in it: `keys`, `files`, `bytes`, digests. Integers named in `measures` are compared with the
    copies before."""
    source: dict[str, Any] = field(default_factory=dict)
    """Where it was taken: pod, run id, role."""
    replication: dict[str, Any] = field(default_factory=dict)
    """Replication id, offset and lag, where there is replication."""
    hooks: tuple[dict[str, Any], ...] = ()
    """Results of what ran before and after."""
    measures: tuple[str, ...] = ()
    """Names in `content` that say how much there is: a sharp drop makes the copy no good one."""


class Capture(Protocol):
    """One copy that is being taken."""

    name: str
    """File name of the copy as a person would keep it: `dump.rdb`, `volume.tar`."""
    estimate: int
    """Bytes to be expected, from what is known before the first is read; 0: nothing is. A store chooses its
    parts by it, so rather too many than too few."""

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes, at most `size`; b"" at the end. Raises PhoenixError where the copy cannot be whole:
        a stream that ends early never looks like its end."""
        ...

    def facts(self) -> Facts:
        """After the end, once. Raises BadState before."""
        ...


class BackupSource(Protocol):
    """Something that can be copied. Left by an exception, `capture` undoes what it did to take the copy."""

    component: str
    """`redis`, `config`, `volume`; with the name of an instance: `redis/cache`."""

    def capture(self) -> AbstractContextManager[Capture]: ...
