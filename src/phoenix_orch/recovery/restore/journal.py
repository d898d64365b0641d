"""How far a restore has come, in a file of its own, so that a death is seen and its consequences are mended.

    planned → copying → staging → cutting → checking → done
       │         └─────────┴─→ failed      └────┴─→ returning → undone
       └──────────────────────────────────────────────→ aborted

Before `cutting` nothing was changed. A restore that died in `cutting` or later has left the target following
nobody: `run` goes on from there, `abort` makes it a primary with what it holds.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

from pydantic import ValidationError

from phoenix_orch.kernel.errors import BadState, NotFound, Terminal
from phoenix_orch.recovery.manifest import Part
from phoenix_orch.recovery.restore.plan import RestorePlan
from phoenix_orch.runtime.files import make_private
from phoenix_orch.runtime.valkey_name import write_private


class State(StrEnum):
    PLANNED = "planned"
    COPYING = "copying"
    """The safety copy is being taken."""
    STAGING = "staging"
    """The copy is being proven in a throw-away server."""
    CUTTING = "cutting"
    """The target takes the copy."""
    CHECKING = "checking"
    """Keys and replicas are being looked at."""
    RETURNING = "returning"
    """The safety copy is being put back."""
    DONE = "done"
    UNDONE = "undone"
    """It failed after the cut-over, and the target has its old data again."""
    FAILED = "failed"
    """It failed, and the target was not changed."""
    ABORTED = "aborted"


ENDED = frozenset({State.DONE, State.UNDONE, State.FAILED, State.ABORTED})
TOUCHED = frozenset({State.CUTTING, State.CHECKING, State.RETURNING})
"""In these the target may have been changed, and may take no writes."""


class Entry(Part):
    """One restore."""

    plan: RestorePlan
    state: State = State.PLANNED
    safety: str = ""
    """Id of the safety copy, once it was verified."""
    safety_manifest: str = ""
    digest: str = ""
    """Of the copy's content, as the throw-away server had it; SHA-256 of a dump that none could load."""
    loaded: int | None = None
    """Keys that the throw-away server found in it."""
    message: str = ""
    told: tuple[str, ...] = ()
    """What was done and seen, in words."""


class Journal:
    """The restores of one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def write(self, entry: Entry) -> Entry:
        """Whole or not at all. Raises Terminal."""
        try:
            make_private(self._directory)
            write_private(self._path(entry.plan.id), entry.model_dump_json(by_alias=True, indent=2))
        except OSError as error:
            raise Terminal(
                f"the journal of restores cannot be written: {error.strerror or error}",
                remedy="free space there, or name another directory with --data-dir",
            ) from error
        return entry

    def read(self, name: str) -> Entry:
        """By id, or the beginning of one. Raises NotFound."""
        found = [entry for entry in self.all() if entry.plan.id.startswith(name)]
        if len(found) != 1:
            raise NotFound(
                f"there is no restore {name!r}" if not found else f"several restores begin with {name!r}",
                remedy="`phoenix restore status` shows all",
            )
        return found[0]

    def endable(self, name: str) -> Entry:
        """One that nobody is at and that has not ended. Raises BadState, NotFound."""
        entry = self.read(name)
        if entry.state in ENDED:
            raise BadState(
                f"restore {entry.plan.id} is {entry.state.value}", remedy="there is nothing to abort"
            )
        if self.running(entry.plan.id):
            raise BadState(f"a process is at restore {entry.plan.id}", remedy="end that one first")
        return entry

    def all(self) -> list[Entry]:
        """Oldest first; a file that cannot be read is left out."""
        entries = []
        for path in sorted(self._directory.glob("*.json")) if self._directory.is_dir() else ():
            try:
                entries.append(Entry.model_validate_json(path.read_bytes()))
            except (OSError, ValidationError):
                continue
        return sorted(entries, key=lambda entry: entry.plan.made)

    def running(self, name: str) -> bool:
        """Whether a process is at it now."""
        try:
            with self.held(name):
                return False
        except BadState:
            return True

    @contextmanager
    def held(self, name: str, what: str = "") -> Iterator[None]:
        """For one process at a time; a death gives it back. `what`: it is, for people. Raises BadState."""
        make_private(self._directory)
        descriptor = os.open(self._directory / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BadState(
                    f"another process is at {what or f'restore {name}'}",
                    remedy=f"phoenix restore status{'' if what else f' {name}'} shows how far it is",
                ) from None
            yield
        finally:
            os.close(descriptor)

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.json"
