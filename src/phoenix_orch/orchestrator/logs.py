"""What instances wrote, for the API and for verification: the workload's logs, read on a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from phoenix_orch.kernel.errors import Retryable
from phoenix_orch.kernel.units import format_duration
from phoenix_orch.orchestrator.views import LogLine, LogPage
from phoenix_orch.workload.logs import ServiceLogs

SEARCH_LIMIT = 30.0
"""Real seconds after which a search for patterns is given up."""


class WorkloadLogs:
    """Reads the logs of all services below a data directory."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir

    async def instances(self, service: str) -> tuple[str, ...]:
        """Instances with a log, oldest first."""
        return await asyncio.to_thread(ServiceLogs(self._data_dir, service).instances)

    async def page(
        self, service: str, *, instance: str | None, lines: int, after: Mapping[str, int]
    ) -> LogPage:
        """The last `lines` lines of each instance, or all after the given offsets. Instance by instance."""
        logs = ServiceLogs(self._data_dir, service)
        page = await asyncio.to_thread(logs.tail, instance, lines=lines, since=after)
        return LogPage(
            lines=tuple(LogLine(instance=line.instance, text=line.text) for line in page.lines),
            offsets=dict(page.places),
        )

    async def mark(self, service: str, revision: str) -> dict[str, int]:
        """Where the logs of one revision end now."""
        return await asyncio.to_thread(ServiceLogs(self._data_dir, service).places, revision)

    async def matches(
        self, service: str, revision: str, since: Mapping[str, int] | None, patterns: Sequence[str]
    ) -> list[str]:
        """The first lines that match one of `patterns`, written after `since` (None: all there is).

        Raises Retryable when that takes longer than `SEARCH_LIMIT`.
        """
        logs, given_up = ServiceLogs(self._data_dir, service), threading.Event()
        try:
            async with asyncio.timeout(SEARCH_LIMIT):
                found = await asyncio.to_thread(
                    logs.scan, revision, patterns, since=since, given_up=given_up.is_set
                )
        except TimeoutError:
            limit = format_duration(timedelta(seconds=SEARCH_LIMIT))
            raise Retryable(
                f"the logs were not searched to their end within {limit}",
                remedy="write fewer patterns, or such with fewer repetitions",
            ) from None
        finally:
            given_up.set()  # a thread cannot be cancelled
        return [f"{line.instance}: {line.text}" for line in found]
