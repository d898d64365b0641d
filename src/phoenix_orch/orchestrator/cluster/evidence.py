"""The evidence of a cluster: for each Rollout the Prometheus that it names, read as its router counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from phoenix_orch.health_validator.sources.prometheus import PrometheusMetrics
from phoenix_orch.health_validator.sources.router_series import Target
from phoenix_orch.health_validator.sources.source import Context, EvidenceSource, Reading, SourceMemory
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.orchestrator.cluster.declared import Rollouts
from phoenix_orch.orchestrator.cluster.prometheus import Endpoints, target_of
from phoenix_orch.orchestrator.cluster.queries import with_queries
from phoenix_orch.rollout.kubernetes_spec import QUERIED

_POD_SCRAPES = "pods"


class ClusterEvidence:
    """An EvidenceSource. One question for each kind of series serves all rollouts of an endpoint."""

    def __init__(self, rollouts: Rollouts, endpoints: Endpoints) -> None:
        self._rollouts = rollouts
        self._endpoints = endpoints

    async def observe(self, context: Context, memory: SourceMemory) -> Reading:
        one = self._rollouts.named(context.rollout)
        if one.spec.evidence.source == _POD_SCRAPES:
            raise Invalid(
                f"Rollout {one.name} asks for the metrics of its pods without a Prometheus, which this"
                " version cannot read",
                remedy="set `evidence.source: prometheus`; `requests: application` reads the pods' own",
            )
        endpoint = self._endpoints.of(one)
        series = await self._endpoints.series(one)
        source = PrometheusMetrics(endpoint.poller, self._locate, series)
        served = tuple(value for value in context.values if value.gauge != QUERIED)
        reading = await source.observe(replace(context, values=served), memory)
        return await with_queries(one, context, reading, endpoint.questions)

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
