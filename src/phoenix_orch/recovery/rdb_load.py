"""Does the copy of a Redis load (level 4)? A throw-away server takes it as a target of a restore would.

It is walked through at the same time, so that it is known how many keys the server has to have.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phoenix_orch.kernel.errors import Retryable
from phoenix_orch.recovery.errors import Corrupted
from phoenix_orch.recovery.manifest import Level, Manifest
from phoenix_orch.recovery.rdb_check import OTHER_COPY, Walk, compared
from phoenix_orch.recovery.rdb_walked import AnyDump, Walked
from phoenix_orch.recovery.redis_address import RedisAddress
from phoenix_orch.recovery.redis_asking import asking, functions
from phoenix_orch.recovery.restore.redis_target import Loaded, NotLoadedError, Session, feeding
from phoenix_orch.recovery.server_program import Program, loader, program_of
from phoenix_orch.recovery.throwaway_valkey import throwaway

_DIGEST_TIMEOUT = 3600.0
"""Seconds; DEBUG DIGEST reads every key, some 130,000 a second."""


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What a throw-away server held after it had loaded a copy."""

    loaded: Loaded
    digest: str
    """Of all keys, types and values, whatever their order; TTLs are not in it."""
    functions: int | None


class DumpLoad:
    """Level 4: a server loads the copy, and has as many keys as there are in it."""

    level = Level.LOADED

    def __init__(self, named: Sequence[Path] = ()) -> None:
        """`named`: servers for copies that the package's does not read."""
        self._named = named
        self._program: Program | None = None
        self.result: Rehearsed | None = None
        """Of the last copy that held."""

    def tools(self) -> dict[str, str]:
        return (self._program or program_of(None)).tools

    @contextlib.contextmanager
    def examine(self, manifest: Manifest) -> Iterator[Rehearsal]:
        self._program = loader(manifest, self._named)
        with throwaway(self._program.path) as server, rehearsing(manifest, server) as rehearsal:
            yield rehearsal
            self.result = rehearsal.result


@contextlib.contextmanager
def rehearsing(manifest: Manifest, server: RedisAddress) -> Iterator[Rehearsal]:
    """Have a server that is thrown away afterwards take a dump."""
    with AnyDump().examine(manifest) as walk, feeding(server, release=False) as session:
        yield Rehearsal(manifest, server, session, walk)


class Rehearsal:
    """One dump that is walked through, and loaded by a server, at the same time."""

    def __init__(
        self, manifest: Manifest, server: RedisAddress, session: Session, walk: Walk | Walked
    ) -> None:
        self._manifest = manifest
        self._server = server
        self._session = session
        self._walk = walk
        self.result: Rehearsed | None = None

    def write(self, data: bytes, /) -> int:
        self._walk.write(data)
        with contextlib.suppress(Retryable):  # it has met damage and ended; `finish` tells where
            self._session.write(data)
        return len(data)

    def finish(self) -> str:
        told = self._walked()
        try:
            loaded = self._session.commit()
        except (NotLoadedError, Retryable) as error:
            raise Corrupted(f"a server did not load the copy: {error.message}", remedy=OTHER_COPY) from error
        have, counts = loaded.loaded + loaded.expired, self._walk.counts
        compared(self._manifest, have)
        if counts is not None and have != counts.keys:
            raise Corrupted(
                f"a server loaded {loaded.loaded:,} keys and found {loaded.expired:,} expired, "
                f"and there are {counts.keys:,} in the copy",
                remedy=OTHER_COPY,
            )
        with asking(self._server, timeout=_DIGEST_TIMEOUT) as client:
            digest = str(client.execute_command("DEBUG", "DIGEST"))  # type: ignore[no-untyped-call]
            count = functions(client)
        self.result = Rehearsed(loaded, digest, count)
        return f"loaded in {loaded.seconds:.1f} s: {told or f'{have:,} keys'}; digest {digest}"

    def _walked(self) -> str:
        """What was counted; empty where the copy holds what is newer than this Phoenix, and the server alone
        knows. Raises Corrupted."""
        if isinstance(self._walk, Walked) and self._walk.newer:
            return ""
        return self._walk.finish()

    def found(self) -> dict[str, Any]:
        digest = {"algorithm": "DEBUG DIGEST", "value": self.result.digest} if self.result else None
        return {**self._walk.found(), "digest": digest}
