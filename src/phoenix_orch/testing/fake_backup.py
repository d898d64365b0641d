"""A source of backups that is a number of bytes, and fails where a test wants it to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from phoenix_orch.kernel.errors import BadState
from phoenix_orch.recovery.backup_source import Capture, Facts


@dataclass
class FakeCapture:
    """Gives `content`; raises `failure` before byte `fails_at`."""

    name: str
    content: bytes
    at: datetime
    measures: dict[str, int]
    fails_at: int | None = None
    failure: Exception | None = None
    estimate: int = 0
    _given: int = 0
    _over: bool = False

    def read(self, size: int = -1, /) -> bytes:
        end = len(self.content) if size < 0 else min(self._given + size, len(self.content))
        if self.failure is not None and self.fails_at is not None and end > self.fails_at:
            raise self.failure
        chunk = self.content[self._given : end]
        self._given = end
        self._over = not chunk or size < 0
        return chunk

    def facts(self) -> Facts:
        if not self._over:
            raise BadState("the copy is not over")
        return Facts(
            consistency_point=self.at,
            engine={"name": "bytes", "version": "1"},
            content={"bytes": len(self.content), **self.measures},
            source={"host": "here"},
            measures=("bytes", *self.measures),
        )


@dataclass
class FakeBackupSource:
    """Implements BackupSource."""

    content: bytes = b"content"
    component: str = "bytes"
    name: str = "copy.bin"
    at: datetime = datetime(2026, 11, 28, tzinfo=UTC)
    """The consistency point of its copies."""
    measures: dict[str, int] = field(default_factory=dict)
    fails_at: int | None = None
    failure: Exception | None = None
    estimate: int = 0
    captures: int = 0
    """Begun so far."""
    open: int = 0
    """Begun and not ended."""

    @contextlib.contextmanager
    def capture(self) -> Iterator[Capture]:
        self.captures += 1
        self.open += 1
        try:
            yield FakeCapture(
                self.name,
                self.content,
                self.at,
                dict(self.measures),
                self.fails_at,
                self.failure,
                self.estimate,
            )
        finally:
            self.open -= 1


def facts_of(source: FakeBackupSource) -> dict[str, Any]:
    """What the manifest of a whole copy says of its content."""
    return {"bytes": len(source.content), **source.measures}
