"""The access log: one line of JSON for each request, in files that stay small.

    logs/access.jsonl, then access.jsonl.1 (newer) to access.jsonl.4 (oldest)

It is kept apart from the audit log: it says who looked, too, it may lose lines, and nothing waits for it.
What the disk does not take, or takes too slowly, is counted in `phoenix_access_log_lost_total`.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import structlog

from phoenix_orch.observability import metrics
from phoenix_orch.runtime.files import make_private

LARGEST_FILE = 8 * 2**20
"""Bytes after which a new file begins."""
OLDER_FILES = 4
MOST_WAITING = 10_000
"""Lines in memory while the disk is slow."""
_BATCH = 1000
_PATIENCE = 5.0
"""Seconds that the end of a process waits for the last lines."""

_log = structlog.get_logger("phoenix.api")


@dataclass(frozen=True, slots=True)
class Access:
    """One request, without anything that it carried."""

    at: datetime
    """When it came."""
    request_id: str
    principal: str
    """Empty where nobody became known."""
    method: str
    route: str
    """The template: names of what was asked for are not in it."""
    status: int
    milliseconds: float
    """To the end of the answer; of a stream as long as somebody looked."""
    address: str

    def line(self) -> bytes:
        """ASCII, so that nothing in it steers a terminal."""
        content = {
            "at": self.at.isoformat(timespec="milliseconds"),
            "requestId": self.request_id,
            "principal": self.principal,
            "method": self.method,
            "route": self.route,
            "status": self.status,
            "ms": round(self.milliseconds, 3),
            "address": self.address,
        }
        return json.dumps(content, separators=(",", ":")).encode("ascii") + b"\n"


class AccessLog:
    """Written by a thread of its own, from the first line until `close`."""

    def __init__(self, path: Path, *, largest: int = LARGEST_FILE, waiting: int = MOST_WAITING) -> None:
        self._path = path
        self._largest = largest
        self._queue: queue.Queue[Access | None] = queue.Queue(waiting)
        self._thread: threading.Thread | None = None
        self._failing = False

    def add(self, access: Access) -> None:
        """Never blocks; what does not fit is lost and counted."""
        try:
            self._queue.put_nowait(access)
        except queue.Full:
            metrics.ACCESS_LOST.inc()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="access log", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Write what waits, and end. Blocks for as long as the disk takes, five seconds at most."""
        if self._thread is None:
            return
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=_PATIENCE)
        self._thread.join(_PATIENCE)
        self._thread = None

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            batch, ends = [first], False
            while len(batch) < _BATCH and not self._queue.empty():
                following = self._queue.get()
                if following is None:
                    ends = True
                    break
                batch.append(following)
            self._write(batch)
            if ends:
                return

    def _write(self, batch: Sequence[Access]) -> None:
        content = b"".join(one.line() for one in batch)
        try:
            make_private(self._path.parent)
            if self._path.exists() and self._path.stat().st_size + len(content) > self._largest:
                self._rotate()
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "ab") as file:
                file.write(content)
        except OSError as error:
            metrics.ACCESS_LOST.inc(len(batch))
            if not self._failing:
                _log.warning("the access log cannot be written", reason=error.strerror)
            self._failing = True
        else:
            self._failing = False

    def _rotate(self) -> None:
        for number in range(OLDER_FILES, 0, -1):
            newer = self._numbered(number - 1)
            if newer.exists():
                newer.replace(self._numbered(number))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}") if number else self._path
