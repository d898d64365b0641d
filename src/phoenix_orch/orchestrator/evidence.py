"""The evidence sources of one machine, and one variant's own numbers for verification."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from datetime import timedelta

from phoenix_orch.health_validator.observation import Arm, Quality
from phoenix_orch.health_validator.sources.process_metrics import ProcessMetrics
from phoenix_orch.health_validator.sources.resources import ProcessResources
from phoenix_orch.health_validator.sources.router_metrics import RouterMetrics
from phoenix_orch.health_validator.sources.scrape import Scraper
from phoenix_orch.health_validator.sources.serving import nobody
from phoenix_orch.health_validator.sources.source import Context, EvidenceSource, SourceMemory
from phoenix_orch.kernel.clock import Clock
from phoenix_orch.rollout.status import Rollout
from phoenix_orch.traffic.embedded import EmbeddedRouter
from phoenix_orch.workload.workload import WorkloadView


def evidence_sources(router: EmbeddedRouter, scraper: Scraper) -> dict[str, EvidenceSource]:
    """By the word in `evidence.source`."""
    resources = ProcessResources()
    return {
        "router": RouterMetrics(router.metrics_page, scraper, resources=resources),
        "metrics": ProcessMetrics(scraper, resources=resources),
    }


READY_PATIENCE = 10.0
"""Real seconds, or a window where that is longer, to wait for an instance that can answer."""
_LOOK = 0.2
"""Real seconds between two looks for one."""


class ArmReader:
    """What one revision does during a window: two readings of the source, at its two ends.

    The window begins when an instance can answer: after a start of everything there is nobody to be watched,
    and what the router answers by itself says nothing of the revision (ADR 0014).
    """

    def __init__(self, sources: Mapping[str, EvidenceSource], view: WorkloadView, clock: Clock) -> None:
        self._sources = sources
        self._view = view
        self._clock = clock

    async def __call__(self, rollout: Rollout, revision: str, window: timedelta) -> Arm | None:
        """None when the source does not answer at the end of the window."""
        served, absent = await self._served(rollout, revision, window)
        if not served:
            return Arm(revision=revision, quality=Quality.GAP, unserved=absent)
        memory = (await self._reading(rollout, revision, window, SourceMemory()))[1]
        await self._clock.sleep(window)
        arm, _ = await self._reading(rollout, revision, window, memory)
        if arm.quality in (Quality.GAP, Quality.STALE):
            return None
        return arm.model_copy(update={"unserved": round(arm.unserved + absent, 3)})

    async def _served(self, rollout: Rollout, revision: str, window: timedelta) -> tuple[bool, float]:
        """Wait until an instance of it can answer: whether one can, and for how many seconds none could."""
        give_up = time.monotonic() + max(READY_PATIENCE, self._clock.real(window).total_seconds())
        begun, absent = self._clock.now(), 0.0
        while nobody(await self._view.state(rollout.service), revision):
            if time.monotonic() > give_up:
                return False, absent
            await asyncio.sleep(_LOOK)
            absent = (self._clock.now() - begun).total_seconds()
        return True, absent

    async def _reading(
        self, rollout: Rollout, revision: str, window: timedelta, memory: SourceMemory
    ) -> tuple[Arm, SourceMemory]:
        now = self._clock.now()
        context = Context(
            rollout=rollout.name,
            route=rollout.route,
            revision=revision,
            stable=None,
            step=0,
            weight=100,
            t0=now - window,
            t1=now,
            interval=window,
            workload=await self._view.state(rollout.service),
        )
        reading = await self._sources[rollout.spec.evidence.source].observe(context, memory)
        return reading.observation.canary, reading.memory
