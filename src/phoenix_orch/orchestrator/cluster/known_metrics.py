"""Whether Prometheus knows the metrics that a Rollout names, before a release of it gets any weight.

A name with a slip of the pen finds nothing, and what finds nothing is easily taken for quiet. So a release
waits until every name is known, and says which one is not. It is looked for beside the controller, never in
its way.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import structlog

from phoenix_orch.health_validator.sources.exposition import business_names
from phoenix_orch.health_validator.sources.prometheus_questions import Questions
from phoenix_orch.kernel.errors import Invalid, PhoenixError
from phoenix_orch.orchestrator.cluster.declared import Declared
from phoenix_orch.orchestrator.cluster.prometheus import Endpoints
from phoenix_orch.orchestrator.cluster.queries import ANY_POD, filled
from phoenix_orch.rollout.status import Obstacle
from phoenix_orch.runtime.faults import Faults

PAUSE = 2.0
"""Seconds between two looks."""
FORGET = 60.0
"""Seconds after which a Rollout that nobody asks about any more is not looked for."""
_WAITS = "the release waits for it"


class Probe(NamedTuple):
    """A question that has an answer once a metric is known."""

    what: str
    """For people."""
    query: str


@dataclass(slots=True)
class _Look:
    one: Declared
    asked: float
    found: Obstacle | None


class KnownMetrics:
    """`run` until cancelled; `obstacle` says what it has found."""

    def __init__(self, endpoints: Endpoints, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Without any endpoint nothing is looked for: the health validator holds a step of which it knows
        too little."""
        self._endpoints = endpoints
        self._clock = clock
        self._looks: dict[str, _Look] = {}
        self._faults = Faults(structlog.get_logger("phoenix.metrics"))

    def obstacle(self, one: Declared) -> Obstacle | None:
        """What keeps a release from starting, as far as is known; asks nobody."""
        evidence = one.spec.evidence
        if not self._endpoints or evidence.source != "prometheus" or not any(probes(one)):
            return None
        look = self._looks.get(one.uid)
        if look is None or look.one.spec.evidence != evidence:
            waits = Obstacle(reason="MetricUnchecked", message="Prometheus is asked for its metrics")
            look = self._looks[one.uid] = _Look(one, 0.0, waits)
        look.asked = self._clock()
        return look.found

    async def run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(PAUSE)

    async def look(self) -> None:
        """Once for every Rollout that is asked about."""
        now = self._clock()
        self._looks = {key: look for key, look in self._looks.items() if now - look.asked < FORGET}
        await asyncio.gather(*map(self._guarded, self._looks.values()))

    async def _guarded(self, look: _Look) -> None:
        name = look.one.name
        try:
            look.found = await self._found(look.one)
        except Exception as error:  # noqa: BLE001 - a defect in one must not end the look at all
            self._faults.tell(name, "metrics", error=error, unforeseen=True)
            look.found = Obstacle(
                reason="MetricUnchecked", message=f"its metrics cannot be looked for: {error}"
            )
        else:
            self._faults.mended(name, "metrics")

    async def _found(self, one: Declared) -> Obstacle | None:
        try:
            questions = self._endpoints.of(one).questions
        except Invalid as error:
            return Obstacle(reason="PrometheusUnknown", message=str(error))
        found = await asyncio.gather(*(_missing(probe, questions) for probe in probes(one)))
        return next((obstacle for obstacle in found if obstacle is not None), None)


def probes(one: Declared) -> Iterator[Probe]:
    """What has to be known, each by a question that does not depend on traffic. Pure."""
    evidence = one.spec.evidence
    for metric in evidence.business:
        yield _named(one, f"counter {metric.counter}", *business_names(metric))
    for value in evidence.values:
        yield _named(one, f"gauge {value.gauge}", value.gauge)
    for query in evidence.queries:
        text = filled(query, namespace=one.namespace, pods=ANY_POD, window=evidence.window)
        yield Probe(f"query {query.name}", text)


def _named(one: Declared, what: str, *names: str) -> Probe:
    either = "|".join(dict.fromkeys(names))
    return Probe(what, f'count({{__name__=~"{either}",namespace="{one.namespace}"}})')


async def _missing(probe: Probe, questions: Questions) -> Obstacle | None:
    try:
        answer = await questions.ask(probe.query)
    except Invalid as error:
        return Obstacle(reason="QueryRefused", message=f"{probe.what}: {error}")
    except PhoenixError as error:
        return Obstacle(
            reason="MetricUnchecked",
            message=f"whether Prometheus knows {probe.what} cannot be seen: {error.message}",
        )
    if answer.series:
        return None
    told = f"Prometheus knows nothing of {probe.what} in any pod of the namespace; {_WAITS}"
    return Obstacle(reason="MetricUnknown", message=told)
