"""Metrics that are shown as they were reckoned last, and counted by nobody in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

F = TypeVar("F")
Family = GaugeMetricFamily | CounterMetricFamily
Sample = tuple[str, Sequence[str], float | None]
"""Key of its family, values of its labels, value; None: it is not known, and not shown."""


class FigureCollector(Collector, Generic[F]):
    """Shows the figures that it was given last."""

    def __init__(
        self, families: Callable[[], Mapping[str, Family]], samples: Callable[[F], Iterator[Sample]]
    ) -> None:
        """`families` makes empty ones, by key. `samples`: of one figure, at the moment of the question."""
        self._families = families
        self._samples = samples
        self._figures: Sequence[F] = ()

    def set(self, figures: Sequence[F]) -> None:
        self._figures = tuple(figures)

    def describe(self) -> list[Metric]:
        return list(self._families().values())

    def collect(self) -> Iterator[Metric]:
        families = self._families()
        for one in self._figures:
            for name, labels, value in self._samples(one):
                if value is not None:
                    families[name].add_metric(labels, float(value))
        yield from families.values()
