"""Whole questions in PromQL, each asked once for everybody who has the same one."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from phoenix_orch.health_validator.sources.prometheus_api import Found, PrometheusApi
from phoenix_orch.kernel.errors import PhoenixError

FORGET = 120.0
"""Seconds after which an answer that nobody asks for any more is forgotten."""


@dataclass(slots=True)
class _Kept:
    at: float = float("-inf")
    wanted: float = 0.0
    found: Found | None = None
    fault: PhoenixError | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Questions:
    """Shared by all rollouts of one endpoint. Usable from one event loop."""

    def __init__(
        self, api: PrometheusApi, *, fresh: float = 4.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`fresh`: seconds for which an answer, or a failure, serves everybody."""
        self._api = api
        self._fresh = fresh
        self._clock = clock
        self._kept: dict[str, _Kept] = {}

    async def ask(self, query: str) -> Found:
        """The newest answer to an instant query. Raises Invalid for one that is refused, or Retryable."""
        now = self._clock()
        self._kept = {text: one for text, one in self._kept.items() if now - one.wanted < FORGET}
        kept = self._kept.setdefault(query, _Kept())
        kept.wanted = now
        async with kept.turn:
            if self._clock() - kept.at >= self._fresh:
                try:
                    kept.found, kept.fault = await self._api.ask(query), None
                except PhoenixError as fault:
                    kept.found, kept.fault = None, fault
                kept.at = self._clock()
        if kept.fault is not None:
            raise kept.fault
        assert kept.found is not None
        return kept.found


def number(found: Found, *, at_least: bool) -> float | None:
    """The one number of an answer; of several series the one nearer to a breach, `at_least`: the lowest.

    None: there is none, or one of them is no finite number, or the answer is not whole.
    """
    values = [series.points[-1][1] for series in found.series if series.points]
    if not values or found.warnings or not all(map(math.isfinite, values)):
        return None
    return min(values) if at_least else max(values)
