"""Which storage this is: a mark that is made at its first use, and what this machine remembers of it.

    storage.json    in the storage: its id, and when it was first used
    seen.json       here, for each place: the mark that was there last

A share that is not mounted is an empty folder. Without a mark a new chain of backups would begin in there,
and everything would look well until somebody restores.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import ClassVar, Literal

import structlog
from pydantic import AwareDatetime, Field, ValidationError

from phoenix_orch.kernel.errors import Conflict, NotFound, Terminal
from phoenix_orch.kernel.ids import sortable_id
from phoenix_orch.recovery.layout import VERSION
from phoenix_orch.recovery.manifest import Part
from phoenix_orch.recovery.objects import ObjectStore
from phoenix_orch.runtime.files import make_private

KEY = "storage.json"
_log = structlog.get_logger("phoenix.backup")


class StorageLostError(Terminal):
    """The storage is not the one that it was: empty, or another one."""

    code: ClassVar[str] = "storage_lost"


class Mark(Part):
    """What stands in a storage, unsigned: several Phoenixes may use it, and whoever could exchange the mark
    could remove the backups, too."""

    schema_: Literal["phoenix-orch.io/storage/v1"] = Field(
        default="phoenix-orch.io/storage/v1", alias="schema"
    )
    id: str
    made: AwareDatetime


class Marks:
    """The mark of one storage."""

    def __init__(
        self,
        store: ObjectStore,
        where: str,
        state: Path,
        now: Callable[[], datetime],
        *,
        missing: Callable[[], bool] = lambda: False,
    ) -> None:
        """`where`: the place in words, by which it is remembered in a folder below `state`. `missing`:
        whether the place itself is not there, as only a folder can be."""
        self._store = store
        self._now = now
        self._missing = missing
        self.where = where
        self.folder = state / hashlib.sha256(where.encode()).hexdigest()[:16]
        """What is kept here of this storage."""

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def look(self) -> Mark | None:
        """The mark; None where the storage was never used, as far as is known here.

        Raises StorageLostError where it was, and is empty or another one now; and what the store raises.
        """
        mark, seen = self._there(), self._seen()
        if mark is None:
            if seen is not None:
                raise self._lost(seen)
            return None
        if seen is not None and seen.id != mark.id:
            raise StorageLostError(
                f"{self.where} is another storage than before: it was made {mark.made:%F %T} UTC, and the "
                f"one that was used here {seen.made:%F %T} UTC",
                remedy="mount the right one, or mend backup.storage; if this one is meant from now on: "
                "`phoenix backup init`",
            )
        if seen is None:
            self._remember(mark)
        return mark

    def use(self) -> Mark:
        """The mark, made at the first use. Raises what `look` does."""
        return self.look() or self._make()

    def still(self, mark: Mark) -> None:
        """Raises StorageLostError where the storage is not the one any more that has this mark."""
        there = self._there()
        if there is None or there.id != mark.id:
            raise StorageLostError(
                f"{self.where} is {self._nothing() if there is None else 'another storage'} all at once: it "
                "went away in the middle of a run, of which nothing was published",
                remedy="look whether it is mounted; the next run takes the backup once it is back",
            )

    def begin(self) -> tuple[Mark, bool]:
        """Use the storage that is there from now on, whatever was there before; and whether that is new.

        What was seen in the former one is forgotten; a mark alone that is gone is made again.
        """
        mark, seen = self._there(), self._seen()
        if mark is not None and seen is not None and mark.id == seen.id:
            return mark, False
        if mark is None and seen is not None and self._used():
            return self._make(seen), True
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.folder)
        if mark is None:
            return self._make(), True
        self._remember(mark)
        return mark, True

    # -- parts ---------------------------------------------------------------------------------------

    def _lost(self, seen: Mark) -> StorageLostError:
        if self._used():
            return StorageLostError(
                f"{KEY}, the mark of the storage, is gone from {self.where}; backups are there",
                remedy="find out who removed it; `phoenix backup init` makes it again",
            )
        return StorageLostError(
            f"{self.where} is {self._nothing()}, and it held backups: it is in use since "
            f"{seen.made:%F %T} UTC",
            remedy="is it mounted? Nothing is written before it is back; if it was emptied on purpose, "
            "`phoenix backup init` begins anew",
        )

    def _nothing(self) -> str:
        return "not there" if self._missing() else "empty"

    def _used(self) -> bool:
        return next(iter(self._store.list(f"{VERSION}/")), None) is not None

    def _make(self, again: Mark | None = None) -> Mark:
        now = self._now()
        mark = again or Mark(id=sortable_id(now), made=now.replace(microsecond=0))
        with contextlib.suppress(Conflict):  # another one was quicker
            self._store.create(KEY, mark.model_dump_json(by_alias=True).encode())
        there = self._there() or mark
        self._remember(there)
        return there

    def _there(self) -> Mark | None:
        try:
            raw, _ = self._store.get(KEY)
        except NotFound:
            return None
        found = _read(raw)
        if found is None:
            raise StorageLostError(
                f"{KEY} in {self.where} is no mark of a storage",
                remedy="something else wrote it: see what, remove it, and `phoenix backup init`",
            )
        return found

    def _seen(self) -> Mark | None:
        try:
            return _read((self.folder / "seen.json").read_bytes())
        except OSError:
            return None

    def _remember(self, mark: Mark) -> None:
        """No backup fails for what is kept here alone."""
        path = self.folder / "seen.json"
        try:
            make_private(self.folder)
            temporary = path.with_name(f".{path.name}.{os.getpid()}")
            temporary.write_text(mark.model_dump_json(by_alias=True), encoding="utf-8")
            temporary.replace(path)
        except OSError as error:
            _log.warning("which storage is used cannot be remembered", file=str(path), reason=error.strerror)


def _read(raw: bytes) -> Mark | None:
    try:
        return Mark.model_validate_json(raw)
    except ValidationError:
        return None
