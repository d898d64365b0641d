"""What people did with restores and keys, where no audit log is needed: in a file, and in the storage.

    DIRECTORY/acts.jsonl                        one line for what is asked, one for what came of it
    restores/<UTC>-<id>.<outcome>.json          the same two, each an object that is never written over

A line is told of when it is on the disk. Half a line, whose writer died, is left out when it is read.
"""

from __future__ import annotations

import fcntl
import os
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from phoenix_orch.kernel.errors import Retryable
from phoenix_orch.recovery.objects import ObjectStore
from phoenix_orch.runtime.files import make_private

PREFIX = "restores/"
NAME = "acts.jsonl"


class Came(StrEnum):
    """What came of it; the words of the audit log."""

    ASKED = "asked"
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"


class Second(StrEnum):
    """What a second person said to what destroys."""

    NOT_WANTED = "not wanted"
    APPROVED = "approved"
    UNASKED = "nobody asked, Phoenix is down"
    BROKEN_GLASS = "break glass"


ALONE = frozenset({Second.UNASKED, Second.BROKEN_GLASS})
"""What others have to be told of afterwards."""


class Act(BaseModel):
    """What is asked, or what came of it. Whoever makes one has masked what is secret."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )

    id: str
    """The same in both records of one act."""
    at: AwareDatetime
    outcome: Came = Came.ASKED
    actor: str
    host: str
    action: str
    """`noun.verb`, as in the audit log."""
    target: str
    plan: str = ""
    """Hash of the plan that was confirmed; empty where there is none."""
    reason: str = ""
    second: Second = Second.NOT_WANTED
    message: str = ""
    """Why it was refused or failed."""
    after: dict[str, Any] = Field(default_factory=dict)
    """What was done, as it can be said in JSON."""


class Acts:
    """Those of one directory. Any number of processes may append."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / NAME

    def append(self, act: Act) -> None:
        """On the disk when it returns. Raises Retryable."""
        try:
            make_private(self._path.parent)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                _write(descriptor, act.model_dump_json(by_alias=True).encode() + b"\n")
            finally:
                os.close(descriptor)
        except OSError as error:
            raise Retryable(
                f"{self._path} cannot be written: {error.strerror or error}",
                remedy="free space there, or name another directory with --data-dir",
            ) from error

    def all(self) -> list[Act]:
        """In the order in which they were written. Raises OSError for a file that cannot be read."""
        found = []
        try:
            lines = self._path.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        for line in lines:
            try:
                found.append(Act.model_validate_json(line))
            except ValidationError:
                continue
        return found


def keep(store: ObjectStore, act: Act) -> str:
    """Put it into the storage; its key. Raises Conflict where it is there, and what the storage raises."""
    key = f"{PREFIX}{act.at:%Y%m%dT%H%M%SZ}-{act.id}.{act.outcome.value}.json"
    store.create(key, act.model_dump_json(by_alias=True, indent=2).encode() + b"\n")
    return key


def _write(descriptor: int, line: bytes) -> None:
    """Behind a line end, also where the last writer died in the middle of a line. Raises OSError."""
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        line = b"\n" + line
    while line:
        line = line[os.write(descriptor, line) :]
    os.fsync(descriptor)
