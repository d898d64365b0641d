"""The evidence of a cluster: for each Rollout the Prometheus that it names, or the pages of its pods."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from phoenix_orch.health_validator.sources.process_metrics import ProcessMetrics
from phoenix_orch.health_validator.sources.processes import Locate, Place
from phoenix_orch.health_validator.sources.prometheus import PrometheusMetrics
from phoenix_orch.health_validator.sources.router_series import Target
from phoenix_orch.health_validator.sources.scrape import Scraper
from phoenix_orch.health_validator.sources.source import Context, EvidenceSource, Reading, SourceMemory
from phoenix_orch.orchestrator.cluster.declared import Declared, Rollouts
from phoenix_orch.orchestrator.cluster.prometheus import Endpoints, target_of
from phoenix_orch.orchestrator.cluster.queries import with_queries
from phoenix_orch.rollout.kubernetes_spec import QUERIED
from phoenix_orch.workload.deployment.manifest import Manifest, name_of
from phoenix_orch.workload.deployment.metrics_page import metrics_page
from phoenix_orch.workload.workload import Instance

_PODS = "pods"
Pods = Iterable[Manifest]


class ClusterEvidence:
    """An EvidenceSource. One question for each kind of series serves all rollouts of an endpoint."""

    def __init__(
        self, rollouts: Rollouts, endpoints: Endpoints, scraper: Scraper, pods: Callable[[Declared], Pods]
    ) -> None:
        """`scraper` reads the pages of pods where a Rollout wants no Prometheus; `pods`: all there may be."""
        self._rollouts = rollouts
        self._endpoints = endpoints
        self._scraper = scraper
        self._pods = pods

    async def observe(self, context: Context, memory: SourceMemory) -> Reading:
        one = self._rollouts.named(context.rollout)
        if one.spec.evidence.source == _PODS:
            return await ProcessMetrics(self._scraper, locate=self._pages(one)).observe(context, memory)
        endpoint = self._endpoints.of(one)
        series = await self._endpoints.series(one)
        source = PrometheusMetrics(endpoint.poller, self._locate, series)
        served = tuple(value for value in context.values if value.gauge != QUERIED)
        reading = await source.observe(replace(context, values=served), memory)
        return await with_queries(one, context, reading, endpoint.questions)

    def _pages(self, one: Declared) -> Locate:
        """Where each pod of the Rollout shows its metrics."""
        pages = {name_of(pod): metrics_page(pod) for pod in self._pods(one)}

        def locate(instance: Instance) -> Place:
            page = pages.get(instance.name)
            return Place(*page) if page is not None else Place("", f"pod {instance.name} is gone")

        return locate

    async def _locate(self, route: str) -> Target:
        return target_of(self._rollouts.of_route(route))


class OneSource(Mapping[str, EvidenceSource]):
    """The same source whatever word a rollout has for it: in a cluster its spec says the rest."""

    def __init__(self, source: EvidenceSource) -> None:
        self._source = source

    def __getitem__(self, word: str) -> EvidenceSource:
        return self._source

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0
