"""The evidence sources of one machine, and one variant's own numbers for verification."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from phoenix_orch.health_validator.observation import Arm, Quality
from phoenix_orch.health_validator.sources.process_metrics import ProcessMetrics
from phoenix_orch.health_validator.sources.resources import ProcessResources
from phoenix_orch.health_validator.sources.router_metrics import RouterMetrics
from phoenix_orch.health_validator.sources.scrape import Scraper
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


class ArmReader:
    """What one revision does during a window: two readings of the source, at its two ends."""

    def __init__(self, sources: Mapping[str, EvidenceSource], view: WorkloadView, clock: Clock) -> None:
        self._sources = sources
        self._view = view
        self._clock = clock

    async def __call__(self, rollout: Rollout, revision: str, window: timedelta) -> Arm | None:
        """None when the source does not answer at the end of the window."""
        memory = (await self._reading(rollout, revision, window, SourceMemory()))[1]
        await self._clock.sleep(window)
        arm, _ = await self._reading(rollout, revision, window, memory)
        return None if arm.quality in (Quality.GAP, Quality.STALE) else arm

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
