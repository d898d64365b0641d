"""One look at both variants: what the router sends, which instances there are, and what the source of
evidence says of them. What cannot be had is told and left out; nothing is guessed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta

from phoenix_orch.health_validator.observation import Quality
from phoenix_orch.health_validator.seeing import gap, weight
from phoenix_orch.health_validator.sources.source import Context, EvidenceSource, Reading, SourceMemory
from phoenix_orch.health_validator.watch import PATIENCE, Watch, within
from phoenix_orch.kernel.clock import Clock
from phoenix_orch.kernel.errors import PhoenixError
from phoenix_orch.traffic.router import TrafficRouter, TrafficSeen
from phoenix_orch.workload.workload import WorkloadState, WorkloadView

SOURCE_PATIENCE = 10.0
"""Real seconds for one observation. Sources have shorter time-outs of their own."""

START = timedelta(seconds=5)
"""Real time that a source has to say something first, before its silence is told."""


class Looking:
    """Asks the router, the workload and the sources. Says what hinders it to the watch."""

    def __init__(
        self,
        router: TrafficRouter,
        workload: WorkloadView,
        sources: Mapping[str, EvidenceSource],
        clock: Clock,
    ) -> None:
        """`sources` by the word in `evidence.source`: router, metrics."""
        self._router = router
        self._workload = workload
        self._sources = sources
        self._clock = clock

    async def context(
        self, watch: Watch, revision: str, interval: timedelta, since: datetime | None
    ) -> Context:
        rollout, status = watch.rollout, watch.rollout.status
        seen, workload = await asyncio.gather(self._seen(watch), self._workload_state(watch))
        now = self._clock.now()
        return Context(
            rollout=rollout.name,
            route=rollout.route,
            revision=revision,
            stable=status.stable if revision != status.stable else None,
            step=status.step,
            weight=weight(seen, revision),
            t0=since if since is not None else now,
            t1=now,
            interval=interval,
            workload=workload,
            business=rollout.spec.evidence.business,
            values=rollout.spec.evidence.values,
            notes=("the router does not say what it sends",) if seen.weight is None else (),
            backends=seen.backends or frozenset(),
        )

    async def _seen(self, watch: Watch) -> TrafficSeen:
        try:
            seen = await within(PATIENCE, self._router.observe(watch.rollout.route))
        except PhoenixError as error:
            watch.trouble("router", error.message)
            return TrafficSeen(weight=None)
        watch.mended("router")
        return seen

    async def _workload_state(self, watch: Watch) -> WorkloadState | None:
        try:
            state = await within(PATIENCE, self._workload.state(watch.rollout.service))
        except PhoenixError as error:
            watch.trouble("workload", error.message)
            return None
        watch.mended("workload")
        return state

    async def read(self, watch: Watch, context: Context, memory: SourceMemory) -> Reading:
        """Ask the source; whatever it does wrong is a gap."""
        word = watch.rollout.spec.evidence.source
        try:
            reading = await within(SOURCE_PATIENCE, self._sources[word].observe(context, memory))
        except Exception as error:  # noqa: BLE001 - sources are other people's code, too
            reason = error.message if isinstance(error, PhoenixError) else repr(error)
            watch.trouble("source", reason, exc_info=not isinstance(error, PhoenixError))
            return gap(context, memory, reason)
        if reading.observation.canary.quality is not Quality.GAP:
            watch.answered = True
            watch.mended("source")
        elif not self._starts(watch):
            watch.trouble("source", "; ".join(reading.observation.notes))
        return reading

    def _starts(self, watch: Watch) -> bool:
        """A router that was started a moment ago says nothing yet, and that hinders nobody."""
        watch.begun = watch.begun or self._clock.now()
        return not watch.answered and self._clock.real(self._clock.now() - watch.begun) < START
