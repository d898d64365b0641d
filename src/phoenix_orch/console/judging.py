"""Why a release stands where it stands: judged again from what was observed, once for all viewers."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from phoenix_orch.console import series
from phoenix_orch.health_validator.explanation import Explanation, explained, unrecorded
from phoenix_orch.health_validator.picture import Picture, picture
from phoenix_orch.health_validator.recording import Header, Recording
from phoenix_orch.health_validator.whatif import judged
from phoenix_orch.kernel.errors import Invalid, NotFound
from phoenix_orch.orchestrator import released
from phoenix_orch.orchestrator.operations_port import Operations
from phoenix_orch.orchestrator.views import RolloutView
from phoenix_orch.rollout.spec import RolloutSpec
from phoenix_orch.rollout.status import Release

KEPT = 50
"""Judged releases that are remembered."""


@dataclass(frozen=True, slots=True)
class Judgement:
    explanation: Explanation
    charts: tuple[dict[str, Any], ...] = ()
    """Shares with intervals, for each metric that is limited."""
    evidence: dict[str, Any] | None = None


class Judging:
    """Judges releases for pages. What was judged is kept until something new was observed."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self._kept: OrderedDict[tuple[object, ...], Judgement] = OrderedDict()
        self._one_at_a_time = asyncio.Lock()

    async def of(self, view: RolloutView, number: int | None = None) -> Judgement:
        """Of the release on its way, the last one, or that of the number.

        Raises NotFound where there is no such release.
        """
        name = view.rollout.name
        ended = await self._operations.history(name, released.ENDED)
        wanted = released.sought(view, ended, number)
        found = await self._operations.observations(name, wanted.reach, released.LOG)
        if wanted.lacks_past(found):
            found = await self._operations.observations(name, None, released.LOG)
        status = view.rollout.status
        key = (name, wanted.header.release, found[-1].t1 if found else None, status.state, status.step)
        async with self._one_at_a_time:
            if key not in self._kept:
                self._kept[key] = await self._judge(view, ended, wanted, found)
                while len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return self._kept[key]

    async def _judge(
        self, view: RolloutView, ended: list[Release], wanted: released.Sought, found: list[Any]
    ) -> Judgement:
        number = wanted.header.release
        decided, cause = released.decided(view, ended, number)
        try:
            record = released.recording(wanted, found)
            return await asyncio.to_thread(
                _judgement, record, decided=decided, cause=cause, standing=released.standing(view, number)
            )
        except (NotFound, Invalid):  # nothing is kept of it, or nothing was sent to it: what was said then
            gate = view.rollout.spec.policy.gate
            return Judgement(unrecorded(wanted.header, gate, decided, cause))


def nothing(view: RolloutView) -> Judgement:
    """Of a rollout that has released nothing yet."""
    header = Header(rollout=view.rollout.name, release=0, revision=view.rollout.status.stable or "")
    return Judgement(unrecorded(header, view.rollout.spec.policy.gate, None, None))


def _judgement(record: Recording, **told: Any) -> Judgement:
    spec = record.header.spec or RolloutSpec()
    explanation = explained(record, spec, **told)
    found = judged(record, spec)
    drawn = [picture(found.config, found.observations, found.verdicts, metric) for metric in _limited(spec)]
    main = explanation.picture
    if main is not None and main.metric not in {one.metric for one in drawn}:
        drawn.append(main)
    charts = tuple(series.shares(one) for one in drawn if one.points)
    return Judgement(explanation, charts, series.evidence(_any(main, drawn)) if drawn else None)


def _any(main: Picture | None, drawn: list[Picture]) -> Picture:
    return main if main is not None else drawn[0]


def _limited(spec: RolloutSpec) -> list[str]:
    """Metrics with a limit at any step; errors always."""
    limits = [step.limits for step in spec.steps()]
    found = ["errorRate"]
    if any(one.latency_p95 is not None for one in limits):
        found.append("latencyP95")
    if any(one.latency_p99 is not None for one in limits):
        found.append("latencyP99")
    return found
