"""One question for each metric, whatever the number of rollouts.

Every rollout that is watched says which label values it wants. The first that asks after an answer has
grown old asks for all of them at once; the others are served from that answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from phoenix_orch.health_validator.sources.prometheus_api import Found, PrometheusApi, Series
from phoenix_orch.kernel.errors import PhoenixError, Retryable

FORGET = 120.0
"""Seconds after which what nobody asks for any more is left out of the question."""
FRESH = 4.0
"""Seconds for which an answer, or a failure, serves everybody."""
WINDOW = "2m"
"""How far back raw samples are asked for: two scrapes at the slowest usual pace, a minute."""


@dataclass(frozen=True, slots=True)
class Family:
    """Metrics of one kind of program, which are asked for together: they are of the same scrape then."""

    label: str
    """Says whose a series is. Rollouts ask for values of it, by regular expressions."""
    more: str = ""
    """Further matchers, as `container!=""`."""

    def query(self, names: Iterable[str], patterns: Iterable[str]) -> str:
        """Raw samples of the metrics `names` whose label one of the patterns fits in full."""
        matchers = [
            f"__name__=~{_quoted('|'.join(sorted(names)))}",
            f"{self.label}=~{_quoted('|'.join(sorted(patterns)))}",
            self.more,
        ]
        return f"{{{','.join(matcher for matcher in matchers if matcher)}}}[{WINDOW}]"


@dataclass(frozen=True, slots=True)
class Answer:
    """Of one family: the series by the value of its label, each with its name as the label `__name__`."""

    found: Found
    by_value: Mapping[str, Sequence[Series]]

    def of(self, wanted: Callable[[str], bool]) -> list[Series]:
        """The series whose label has a value that is wanted."""
        return [series for value, several in self.by_value.items() if wanted(value) for series in several]


@dataclass(slots=True)
class _Kept:
    names: dict[str, float] = field(default_factory=dict)
    patterns: dict[str, float] = field(default_factory=dict)
    """When each was asked for last."""
    asked: frozenset[str] = frozenset()
    """Names and patterns of the last question."""
    at: float = float("-inf")
    answer: Answer | None = None
    fault: PhoenixError | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Poller:
    """Shared by all rollouts of one Phoenix. Usable from one event loop."""

    def __init__(
        self, api: PrometheusApi, *, fresh: float = FRESH, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`fresh`: seconds for which an answer, or a failure, serves everybody."""
        self._api = api
        self._fresh = fresh
        self._clock = clock
        self._families: dict[Family, _Kept] = {}

    async def read(self, family: Family, names: Iterable[str], pattern: str) -> Answer:
        """The newest answer to everybody's names and patterns, these among them.

        Raises Invalid or Retryable.
        """
        kept = self._families.setdefault(family, _Kept())
        wanted = {*names, pattern}
        now = self._clock()
        kept.patterns[pattern] = now
        kept.names |= dict.fromkeys(wanted - {pattern}, now)
        async with kept.turn:
            if not wanted <= kept.asked or self._clock() - kept.at >= self._fresh:
                await self._ask(family, kept)
        if kept.answer is None or kept.fault is not None:
            raise kept.fault or Retryable("Prometheus was not asked")
        return kept.answer

    async def _ask(self, family: Family, kept: _Kept) -> None:
        now = self._clock()
        kept.names, kept.patterns = _recent(kept.names, now), _recent(kept.patterns, now)
        asked = frozenset({*kept.names, *kept.patterns})
        try:
            found = await self._api.ask(family.query(kept.names, kept.patterns))
        except PhoenixError as fault:
            kept.fault = fault
        else:
            kept.answer, kept.fault = Answer(found, _by_value(found, family.label)), None
        kept.asked, kept.at = asked, self._clock()


def _recent(wants: Mapping[str, float], now: float) -> dict[str, float]:
    return {want: at for want, at in wants.items() if now - at < FORGET}


def _by_value(found: Found, label: str) -> dict[str, list[Series]]:
    by_value: dict[str, list[Series]] = {}
    for series in found.series:
        by_value.setdefault(series.labels.get(label, ""), []).append(series)
    return by_value


def _quoted(text: str) -> str:
    """A string of PromQL."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
