"""Is the dump of a Redis well-formed (level 3)? The server's own program walks through it.

It is fed from its standard input while the copy is opened, so that nothing readable of it gets on a disk. The
program is that of the package: `valkey-server` by another name.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from phoenix_orch.kernel.errors import BadState
from phoenix_orch.recovery import rdb_counts
from phoenix_orch.recovery.errors import Corrupted
from phoenix_orch.recovery.manifest import Level, Manifest
from phoenix_orch.recovery.rdb_counts import Counts
from phoenix_orch.recovery.restore.rdb_versions import unreadable
from phoenix_orch.recovery.server_program import program_of
from phoenix_orch.runtime.detached import harmless_environment
from phoenix_orch.runtime.scratch import scratch
from phoenix_orch.runtime.valkey_program import find_binary

_CHECKER = "valkey-check-rdb"
OTHER_COPY = "choose another copy; `phoenix backup list` shows which hold"


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
            raise Corrupted(f"the dump is damaged: {rdb_counts.fault(words)}", remedy=OTHER_COPY)
        compared(self._manifest, self.counts.keys)
        return str(self.counts)

    def found(self) -> dict[str, Any]:
        return self.counts.told() if self.counts is not None else {}


def compared(manifest: Manifest, keys: int) -> None:
    """With the manifest. INFO counts before the fork: then only a copy of nothing is certain to be wrong."""
    told = manifest.content.get("keys")
    if not isinstance(told, int):
        return
    estimated = bool(manifest.content.get("counted"))
    if (told and not keys) if estimated else told != keys:
        raise Corrupted(f"there are {keys:,} keys in the copy, and {told:,} were there", remedy=OTHER_COPY)


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
    return program_of(None).version
