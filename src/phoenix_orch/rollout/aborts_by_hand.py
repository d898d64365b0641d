"""Who took a release back while Phoenix was dead, and why: noted beside the traffic object, told later.

    <directory>/<route>.json    what was said with the last abort of the route; its owner is who said it

The latch never waits for a note and holds without one. A note is one small file for each route; it goes
as soon as the store has it, as the cause of the release and as an event.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from phoenix_orch.kernel.errors import Invalid, Retryable
from phoenix_orch.kernel.told import Told
from phoenix_orch.rollout.spec import Model
from phoenix_orch.rollout.status import Cause, Event, Rollout
from phoenix_orch.rollout.store.store import RolloutStore
from phoenix_orch.runtime.files import make_private
from phoenix_orch.runtime.users import name_of

REASON_KEPT = 1000
"""Characters of the reason."""


class AbortNote(Model):
    """What a person says with an abort."""

    revision: str
    at: datetime
    """Rollout time."""
    weight: int
    """Share of the traffic that was taken away, in per cent."""
    reason: Told = ""


class AbortNotes:
    """The directory of notes. Blocking; call it from a thread."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def write(self, route: str, note: AbortNote) -> None:
        """Keep the note; of several aborts of one revision the first word stays. Raises OSError."""
        make_private(self._directory)
        with contextlib.suppress(Invalid, Retryable):
            before = self.read(route)
            if before is not None and before[0].revision == note.revision:
                return
        path = self._path(route)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        bounded = note.model_copy(update={"reason": note.reason[:REASON_KEPT]})
        try:
            # Another user than Phoenix's may abort, and Phoenix has to read it.
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(bounded.model_dump_json())
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def read(self, route: str) -> tuple[AbortNote, str] | None:
        """The note and who wrote it, or None. Raises Retryable, or Invalid for one that is damaged."""
        path = self._path(route)
        try:
            with path.open(encoding="utf-8") as file:
                owner = name_of(os.fstat(file.fileno()).st_uid)
                return AbortNote.model_validate_json(file.read()), owner
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Retryable(f"{path} cannot be read: {error.strerror}", remedy="mend its rights") from error
        except ValueError as error:  # a ValidationError, or no UTF-8
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            raise Invalid(f"{path} is not the note of an abort: {reason}", remedy="remove it") from None

    def drop(self, route: str) -> None:
        """The note has been told. Idempotent. Raises Retryable."""
        path = self._path(route)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise Retryable(
                f"{path} cannot be removed: {error.strerror}", remedy="mend its rights"
            ) from error

    def _path(self, route: str) -> Path:
        return self._directory / f"{route}.json"


class AbortsByHand:
    """Brings notes to where causes are looked for."""

    def __init__(self, notes: AbortNotes, store: RolloutStore) -> None:
        self._notes = notes
        self._store = store
        self._told: dict[str, AbortNote] = {}

    async def learn(self, rollout: Rollout, *, stored: bool) -> Cause | None:
        """The cause of the abort that was noted for this rollout, if there is one.

        Where the store can be reached (`stored`) it is told there first: a cause that somebody found
        after the abort gives way to it. May be cut off anywhere and is then done again.
        """
        found = await asyncio.to_thread(self._notes.read, rollout.route)
        if found is None:
            return None
        note, actor = found
        cause = Cause(
            revision=note.revision,
            trigger="person",
            reason=f"aborted: {note.reason or f'by {actor}'}",
            at=note.at,
            actor=actor,
            step=rollout.status.step,
            weight=note.weight,
        )
        if stored:
            if self._told.get(rollout.route) != note:
                await self._tell(rollout, cause)
                self._told[rollout.route] = note
            await asyncio.to_thread(self._notes.drop, rollout.route)
        return cause

    def forget(self, route: str) -> None:
        """The rollout was removed."""
        self._told.pop(route, None)

    async def _tell(self, rollout: Rollout, cause: Cause) -> None:
        known = await self._store.cause(rollout.name, cause.revision)
        if known is None or known.at > cause.at:
            await self._store.clear_cause(rollout.name, cause.revision)
            await self._store.put_cause(rollout.name, cause)
        event = Event(
            at=cause.at,
            reason="AbortedByHand",
            message=f"latched on the traffic object, past Phoenix: {cause.reason}",
            revision=cause.revision,
            release=rollout.status.release,
            actor=cause.actor,
        )
        await self._store.append_events(rollout.name, [event])
