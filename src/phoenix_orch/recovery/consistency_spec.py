"""What phoenix.yaml says of files that have to be whole in themselves."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from phoenix_orch.kernel.arguments import Passable
from phoenix_orch.kernel.units import Duration
from phoenix_orch.rollout.spec import Model

LONGEST_CHECK = timedelta(hours=1)


class CheckKind(StrEnum):
    SQLITE = "sqlite"
    """`PRAGMA quick_check` says ok, with what is in the write-ahead log."""
    JSON = "json"
    """It is one JSON value."""
    JSON_LINES = "jsonLines"
    """Each line is one, but for an unfinished last one."""
    AOF = "aof"
    """`valkey-check-aof` finds it whole; the file is a manifest of a multi-part log, or a single file."""
    COMMAND = "command"
    """A program of the application ends with status 0."""


class FileCheck(Model):
    """One check."""

    kind: CheckKind
    """What is checked."""
    files: Passable = ""
    """Which files, as a pattern within the folder: `*.db`, `**/state.json`. Not for `command`."""
    command: tuple[Passable, ...] = ()
    """The program and its words for `command`; `{folder}` in a word is the folder. What it prints as JSON is
    kept with the backup."""
    at_least: Annotated[int, Field(ge=0)] = 1
    """How many files there have to be: a check of nothing is not passed."""
    timeout: Annotated[Duration, Field(gt=timedelta(0), le=LONGEST_CHECK)] = timedelta(minutes=5)
    """Time that a program may take."""

    @model_validator(mode="after")
    def _one_subject(self) -> Self:
        if (self.kind is CheckKind.COMMAND) != bool(self.command) or (self.kind is CheckKind.COMMAND) == bool(
            self.files
        ):
            raise ValueError("a check has `files`, or, of kind command, `command`")
        return self
