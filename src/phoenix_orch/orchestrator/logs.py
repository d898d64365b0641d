"""What instances wrote: pages for people, and patterns for verification."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from phoenix_orch.orchestrator.views import LogLine, LogPage
from phoenix_orch.workload import state_file

LONGEST_LINE = 16 * 1024
"""Bytes of a line that are shown or matched; the rest of it is left out."""
MATCHES = 100
"""Enough matching lines to say that a pattern appears."""


class WorkloadLogs:
    """Reads the log files below a data directory. Rotation between two reads is noticed by the size."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir

    async def page(
        self, service: str, *, instance: str | None, lines: int, after: Mapping[str, int]
    ) -> LogPage:
        """The last `lines` lines of each instance, or all after the given offsets. Instance by instance."""
        return await asyncio.to_thread(self._page, service, instance, lines, after)

    async def mark(self, service: str, revision: str) -> dict[str, int]:
        """Sizes of the logs of one revision: now."""
        paths = await asyncio.to_thread(self._logs, service, f"{service}-{revision}-")
        return {path.stem: path.stat().st_size for path in paths}

    async def matches(
        self, service: str, revision: str, since: Mapping[str, int] | None, patterns: Sequence[str]
    ) -> list[str]:
        """The first lines that match one of `patterns`, written after `since` (None: all there is)."""
        return await asyncio.to_thread(self._matches, service, revision, since or {}, patterns)

    def _page(self, service: str, instance: str | None, lines: int, after: Mapping[str, int]) -> LogPage:
        found: list[LogLine] = []
        offsets: dict[str, int] = {}
        for path in self._logs(service, instance or f"{service}-"):
            if instance is not None and path.stem != instance:
                continue
            known = after.get(path.stem)
            start = 0 if known is None or known > path.stat().st_size else known
            new: deque[str] = deque(maxlen=lines if known is None else None)
            end = start
            for end, text in _lines(path, start):  # noqa: B007 - the last one is the next offset
                new.append(text)
            offsets[path.stem] = end
            found += [LogLine(instance=path.stem, text=text) for text in new]
        return LogPage(lines=tuple(found), offsets=offsets)

    def _matches(
        self, service: str, revision: str, since: Mapping[str, int], patterns: Sequence[str]
    ) -> list[str]:
        compiled = [re.compile(pattern) for pattern in patterns]
        found: list[str] = []
        for path in self._logs(service, f"{service}-{revision}-"):
            start = since.get(path.stem, 0)
            if start > path.stat().st_size:
                start = 0  # cut by rotation since
            for _, text in _lines(path, start):
                if any(pattern.search(text) for pattern in compiled):
                    found.append(f"{path.stem}: {text}")
                    if len(found) >= MATCHES:
                        return found
        return found

    def _logs(self, service: str, prefix: str) -> list[Path]:
        directory = state_file.Layout(self._data_dir, service).logs
        return sorted(path for path in directory.glob("*.log") if path.name.startswith(prefix))


def _lines(path: Path, start: int) -> Iterator[tuple[int, str]]:
    """(offset after it, text) of every whole line from `start` on; bytes that are no text are escaped."""
    with path.open("rb") as file:
        file.seek(start)
        offset = start
        for raw in file:
            if not raw.endswith(b"\n"):
                return  # still being written
            offset += len(raw)
            yield offset, raw[:LONGEST_LINE].rstrip(b"\r\n").decode(errors="backslashreplace")
