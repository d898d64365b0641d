"""Whether the backup of a claim can be gone back to: it is whole, and the storage has the snapshot."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from phoenix_orch.recovery.errors import Corrupted
from phoenix_orch.recovery.manifest import Level, Manifest
from phoenix_orch.recovery.outside import outside_of
from phoenix_orch.recovery.sources.snapshot_plan import Taken, facts_of, read_back

Holds = Callable[[Taken], str]
"""Asks the storage; in a line what it says. Raises Corrupted where it does not have the snapshot."""


class SnapshotStructure:
    """See `Structural`. Of a snapshot the data is not in what is stored, so that its storage is asked."""

    level = Level.STRUCTURE

    def __init__(self, holds: Holds) -> None:
        self._holds = holds

    def tools(self) -> dict[str, str]:
        return {}

    @contextlib.contextmanager
    def examine(self, manifest: Manifest) -> Iterator[SnapshotExamination]:
        yield SnapshotExamination(manifest, self._holds)


class SnapshotExamination:
    """See `Examination`."""

    def __init__(self, manifest: Manifest, holds: Holds) -> None:
        self._manifest = manifest
        self._holds = holds
        self._text = bytearray()

    def write(self, data: bytes, /) -> int:
        self._text += data
        return len(data)

    def found(self) -> dict[str, Any]:
        """Nothing is counted: the storage has the content."""
        return {}

    def finish(self) -> str:
        """Raises Corrupted."""
        one, told = read_back(bytes(self._text)), outside_of(self._manifest)
        if not told:
            raise Corrupted(f"the manifest of {self._manifest.id} is of no snapshot")
        own = facts_of(one)
        differing = [
            name for name in ("namespace", "snapshot", "handle", "driver") if own[name] != told[name]
        ]
        if differing:
            raise Corrupted(f"the manifest tells of another snapshot: {', '.join(differing)} differ")
        return self._holds(one)
