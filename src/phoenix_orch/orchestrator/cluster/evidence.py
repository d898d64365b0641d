"""The evidence of a cluster: for each Rollout the Prometheus that it names, read as its router counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from phoenix_orch.health_validator.sources.prometheus import PrometheusMetrics
from phoenix_orch.health_validator.sources.prometheus_api import PrometheusApi
from phoenix_orch.health_validator.sources.prometheus_poller import Poller
from phoenix_orch.health_validator.sources.router_series import (
    EnvoyGateway,
    IngressNginx,
    RouterSeries,
    Target,
    TraefikGateway,
    TraefikIngress,
)
from phoenix_orch.health_validator.sources.source import Context, EvidenceSource, Reading, SourceMemory
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.orchestrator.cluster.declared import Declared, Rollouts

_BEHIND_INGRESS: Mapping[str, RouterSeries] = {"traefik": TraefikIngress(), "ingress-nginx": IngressNginx()}
_BEHIND_ROUTE: Mapping[str, RouterSeries] = {"traefik": TraefikGateway(), "envoy-gateway": EnvoyGateway()}
_POD_SCRAPES = "pods"


class ClusterEvidence:
    """An EvidenceSource. One question for each kind of series serves all rollouts of an endpoint."""

    def __init__(self, rollouts: Rollouts, endpoints: Mapping[str, Sequence[str]]) -> None:
        """`endpoints`: addresses by the name that Rollouts call them, in the order of preference."""
        self._rollouts = rollouts
        self._apis = {name: PrometheusApi(urls) for name, urls in endpoints.items()}
        self._pollers = {name: Poller(api) for name, api in self._apis.items()}
        self._found: dict[str, str] = {}

    async def observe(self, context: Context, memory: SourceMemory) -> Reading:
        one = self._rollouts.named(context.rollout)
        poller = self._poller(one)
        series = await self._series(one, poller)
        return await PrometheusMetrics(poller, self._locate, series).observe(context, memory)

    def _poller(self, one: Declared) -> Poller:
        evidence = one.spec.evidence
        if evidence.source == _POD_SCRAPES:
            raise Invalid(
                f"Rollout {one.name} asks for the metrics of its pods without a Prometheus, which this"
                " version cannot read",
                remedy="set `evidence.source: prometheus`; `requests: application` reads the pods' own",
            )
        if evidence.prometheus not in self._pollers:
            known = ", ".join(sorted(self._pollers)) or "none"
            raise Invalid(
                f"Rollout {one.name} names the Prometheus {evidence.prometheus!r}",
                remedy=f"this health validator knows {known}: give --prometheus {evidence.prometheus}=URL",
            )
        return self._pollers[evidence.prometheus]

    async def _series(self, one: Declared, poller: Poller) -> RouterSeries | None:
        """Whose counters count; None: the pods' own. Where that is to be found out, what was found stays."""
        wanted: str = one.spec.evidence.requests
        if wanted == "application":
            return None
        routers = _BEHIND_INGRESS if one.spec.traffic.ingress is not None else _BEHIND_ROUTE
        if wanted == "auto":
            wanted = self._found.get(one.uid) or await self._look(one, poller, routers)
        if wanted not in routers:
            raise Invalid(
                f"Rollout {one.name} wants what {wanted} counted, which does not serve its route",
                remedy=f"set `evidence.requests` to one of: auto, application, {', '.join(routers)}",
            )
        return routers[wanted]

    async def _look(self, one: Declared, poller: Poller, routers: Mapping[str, RouterSeries]) -> str:
        """The router that has counted something of the route; the first while none has. Raises Retryable."""
        target = target_of(one)
        for name, series in routers.items():
            pattern = series.pattern(target)
            for family in series.families:
                answer = await poller.read(family, (series.requests, series.bucket), pattern)
                if any(series.variant(labels.labels, target) for labels in answer.found.series):
                    self._found[one.uid] = name
                    return name
        return next(iter(routers))

    async def _locate(self, route: str) -> Target:
        return target_of(self._rollouts.of_route(route))

    async def aclose(self) -> None:
        for api in self._apis.values():
            await api.aclose()


def target_of(one: Declared) -> Target:
    """What a Rollout is to a router's counters."""
    spec = one.spec
    return Target(
        namespace=one.namespace,
        route=one.rollout.route,
        stable=spec.service,
        canary=spec.canary_service,
        workloads=(spec.workload.name, spec.canary_name),
        backends=("stable", "canary"),
    )


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
