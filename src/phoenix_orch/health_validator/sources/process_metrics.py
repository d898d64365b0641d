"""Evidence from the processes: `/metrics` of every one that serves.

Sees what the program measures of itself. A request that reaches no process is not in it, so a variant
whose processes are all gone is a gap here and 502s in the router's counters.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial

from phoenix_orch.health_validator.sources.assemble import Snapshot, assemble
from phoenix_orch.health_validator.sources.processes import Locate, ProcessReader, on_this_machine
from phoenix_orch.health_validator.sources.resources import Resources
from phoenix_orch.health_validator.sources.scrape import Scraper
from phoenix_orch.health_validator.sources.source import Context, Reading, SourceMemory


class ProcessMetrics:
    """EvidenceSource on the metrics pages of the workload."""

    def __init__(
        self,
        scraper: Scraper,
        *,
        resources: Resources | None = None,
        locate: Locate = on_this_machine,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._scraper = scraper
        self._processes = ProcessReader(scraper, resources, locate=locate)
        self._wall = wall

    async def observe(self, context: Context, memory: SourceMemory) -> Reading:
        wall = self._wall()
        processes = await self._processes.read(context, traffic=True)
        snapshot = Snapshot(
            wall=wall,
            cores=os.cpu_count() or 1,
            traffic={
                revision: tuple(instance.name for instance in context.instances(revision))
                for revision in context.revisions
            },
            samples=(),
            processes=processes,
        )
        work = partial(assemble, context, memory, snapshot)
        return await self._scraper.beside(work, lines=snapshot.series)
