"""Level 3 of a dump without a server: every value is walked past, and all of them are counted.

For dumps that the package's Valkey cannot load, those of Redis 7.4 and later: its own program would refuse
them, and that would say nothing of the copy.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

from phoenix_orch.recovery.handover import GivenUp, Handover, OtherSide
from phoenix_orch.recovery.manifest import Level, Manifest
from phoenix_orch.recovery.objects import Reader
from phoenix_orch.recovery.pipeline import CHUNK
from phoenix_orch.recovery.rdb_check import DumpCheck, Walk, compared, readable_here
from phoenix_orch.recovery.rdb_counts import Counts
from phoenix_orch.recovery.rdb_values import KINDS, UnknownKindError
from phoenix_orch.recovery.rdb_walk import Key, Library, walk


class DumpWalk:
    """Walks through a dump of any kind."""

    level = Level.STRUCTURE

    def __init__(self) -> None:
        self.counts: Counts | None = None
        """Of the last copy that held."""

    def tools(self) -> dict[str, str]:
        return {"phoenix": version("phoenix-orchestrator")}

    @contextlib.contextmanager
    def examine(self, manifest: Manifest) -> Iterator[Walked]:
        handover = Handover()
        with OtherSide(handover, lambda: counted(handover)) as side:
            walked = Walked(handover, side, manifest)
            yield walked
            self.counts = walked.counts


class Walked:
    """One dump that is being walked through."""

    def __init__(self, handover: Handover, side: OtherSide[Counts], manifest: Manifest) -> None:
        self._handover, self._side, self._manifest = handover, side, manifest
        self.counts: Counts | None = None

    def write(self, data: bytes, /) -> int:
        with contextlib.suppress(GivenUp):  # it has found damage; `finish` tells
            self._handover.write(data)
        return len(data)

    @property
    def newer(self) -> bool:
        """After the last byte: it holds what this Phoenix cannot walk past, so that nothing is counted."""
        self._handover.end()
        return isinstance(self._side.failure, UnknownKindError)

    def finish(self) -> str:
        self._handover.end()
        self.counts = self._side.result()
        compared(self._manifest, self.counts.keys)
        return str(self.counts)

    def found(self) -> dict[str, Any]:
        return self.counts.told() if self.counts is not None else {}


class AnyDump:
    """Level 3 by the server's own program, or by our walk where that is of another kind."""

    level = Level.STRUCTURE

    def __init__(self) -> None:
        self._used: DumpCheck | DumpWalk = DumpCheck()

    def tools(self) -> dict[str, str]:
        return self._used.tools()

    @contextlib.contextmanager
    def examine(self, manifest: Manifest) -> Iterator[Walk | Walked]:
        self._used = DumpCheck() if readable_here(manifest) else DumpWalk()
        with self._used.examine(manifest) as examination:
            yield examination


def counted(dump: Reader) -> Counts:
    """Read a dump to its end. Raises Corrupted, Terminal."""
    now = int(time.time() * 1000)
    keys = expires = expired = functions = 0
    types: dict[int, dict[str, int]] = {}
    for one in walk(dump.read, values=False):
        if isinstance(one, Library):
            functions += 1
        elif isinstance(one, Key):
            keys += 1
            expires += one.expires > 0
            expired += 0 < one.expires <= now
            kinds = types.setdefault(one.database, {})
            kinds[KINDS[one.kind]] = kinds.get(KINDS[one.kind], 0) + 1
    while dump.read(CHUNK):
        pass
    return Counts(keys, expires, expired, functions, types)
