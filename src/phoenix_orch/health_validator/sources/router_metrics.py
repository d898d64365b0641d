"""Evidence from the router: Traefik's own counters per variant.

The router sees what users see, including requests that never reached a process. Every attempt of a
request counts, also one that failed and was repeated elsewhere: a dead canary shows as 502 although no
user met it. What it answered while there was nobody of a variant to send to is
not the variant's (`serving`). CPU, memory and business counters come from the processes themselves.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from functools import partial

from phoenix_orch.health_validator.counters import Sample
from phoenix_orch.health_validator.sources.assemble import Snapshot, assemble
from phoenix_orch.health_validator.sources.exposition import router_interest, router_page
from phoenix_orch.health_validator.sources.processes import ProcessReader
from phoenix_orch.health_validator.sources.resources import Resources
from phoenix_orch.health_validator.sources.scrape import ROUTER, Scraper
from phoenix_orch.health_validator.sources.source import Context, Reading, SourceMemory
from phoenix_orch.kernel.errors import PhoenixError
from phoenix_orch.traffic.router import MetricsPage

_ROUTER = "router"

Locate = Callable[[str], Awaitable[MetricsPage | None]]


class RouterMetrics:
    """EvidenceSource on the metrics page of Traefik."""

    def __init__(
        self,
        locate: Locate,
        scraper: Scraper,
        *,
        resources: Resources | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`locate` gives the page of a route, None while no router runs: the `metrics_page` of the
        embedded router."""
        self._locate = locate
        self._scraper = scraper
        self._processes = ProcessReader(scraper, resources)
        self._wall = wall

    async def observe(self, context: Context, memory: SourceMemory) -> Reading:
        wall = self._wall()
        async with asyncio.TaskGroup() as group:
            router = group.create_task(self._router(context.route))
            processes = group.create_task(self._processes.read(context, traffic=False))
        sample, fault = router.result()
        snapshot = Snapshot(
            wall=wall,
            cores=os.cpu_count() or 1,
            traffic=dict.fromkeys(context.revisions, (_ROUTER,)),
            samples=() if sample is None else (sample,),
            processes=processes.result(),
            faults=(fault,) if fault else (),
            outside=True,
        )
        work = partial(assemble, context, memory, snapshot)
        return await self._scraper.beside(work, lines=snapshot.series)

    async def _router(self, route: str) -> tuple[Sample | None, str]:
        try:
            place = await self._locate(route)
        except PhoenixError as error:
            return None, error.message
        if place is None:
            return None, "no router runs"
        answer = await self._scraper.get(place.url, router_interest(route), ROUTER)
        text = answer.text
        if text is None:
            return None, answer.fault
        try:
            page = await self._scraper.beside(lambda: router_page(text, route), lines=text.count("\n"))
        except ValueError as error:
            return None, f"{place.url}: {error}"
        return Sample(_ROUTER, page.started, page.series, place.pid), ""
