"""The Prometheus servers that Rollouts may name, each asked once for all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from phoenix_orch.health_validator.sources.prometheus_api import PrometheusApi
from phoenix_orch.health_validator.sources.prometheus_poller import FRESH, Poller
from phoenix_orch.health_validator.sources.prometheus_questions import Questions
from phoenix_orch.health_validator.sources.router_series import (
    EnvoyGateway,
    IngressNginx,
    RouterSeries,
    Target,
    TraefikGateway,
    TraefikIngress,
)
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.orchestrator.cluster.declared import Declared
from phoenix_orch.rollout.kubernetes_spec import TrafficRef

_BEHIND_INGRESS: Mapping[str, RouterSeries] = {"traefik": TraefikIngress(), "ingress-nginx": IngressNginx()}
_BEHIND_ROUTE: Mapping[str, RouterSeries] = {"traefik": TraefikGateway(), "envoy-gateway": EnvoyGateway()}

AGAIN = 60.0
"""Seconds after which a router that was found is looked for again: it may have been replaced."""
MOST = 10_000
"""Rollouts whose routers are remembered, those that were looked for last."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Servers that know the same, and what is asked of them."""

    api: PrometheusApi
    poller: Poller
    questions: Questions


@dataclass(frozen=True, slots=True)
class _Found:
    """The router that counted a Rollout's requests."""

    name: str
    traffic: TrafficRef
    prometheus: str
    at: float


class Endpoints:
    """Of one process. Close it."""

    def __init__(
        self,
        urls: Mapping[str, Sequence[str]],
        *,
        fresh: float = FRESH,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`urls`: addresses by the name that Rollouts call them, in the order of preference. `fresh`: seconds
        for which an answer serves everybody. `clock`: seconds that never go back."""
        self._by_name = {name: _endpoint(addresses, fresh) for name, addresses in urls.items()}
        self._clock = clock
        self._found: dict[str, _Found] = {}

    def __bool__(self) -> bool:
        return bool(self._by_name)

    def of(self, one: Declared) -> Endpoint:
        """The one that a Rollout names. Raises Invalid."""
        name = one.spec.evidence.prometheus
        if name not in self._by_name:
            known = ", ".join(sorted(self._by_name)) or "none"
            raise Invalid(
                f"Rollout {one.name} names the Prometheus {name!r}",
                remedy=f"known are: {known}; give --prometheus {name}=URL, or name another one",
            )
        return self._by_name[name]

    async def series(self, one: Declared) -> RouterSeries | None:
        """Whose counters are its evidence; None: the pods' own. Raises Invalid, or Retryable."""
        wanted = one.spec.evidence.requests
        return None if wanted == "application" else await self.router(one, wanted)

    async def router(self, one: Declared, wanted: str = "auto") -> RouterSeries:
        """The counters of its router. Where that is to be found out, what was found stays while the Rollout
        names the same objects and, looked for again after a minute, nobody else counts in its place."""
        routers = _BEHIND_INGRESS if one.spec.traffic.ingress is not None else _BEHIND_ROUTE
        if wanted == "auto":
            wanted = await self._auto(one, routers)
        if wanted not in routers:
            raise Invalid(
                f"Rollout {one.name} wants what {wanted} counted, which does not serve its route",
                remedy=f"set `evidence.requests` to one of: auto, application, {', '.join(routers)}",
            )
        return routers[wanted]

    async def _auto(self, one: Declared, routers: Mapping[str, RouterSeries]) -> str:
        """The router that has counted something of the route; the first while none has. Raises Retryable."""
        traffic, prometheus = one.spec.traffic, one.spec.evidence.prometheus
        known, now = self._found.get(one.uid), self._clock()
        if known is not None and (known.traffic, known.prometheus) != (traffic, prometheus):
            known = None
        if known is not None and now - known.at < AGAIN:
            return known.name
        first = known.name if known is not None else next(iter(routers))
        found = await self._counting(one, {first: routers[first], **routers})
        if found is not None or known is not None:
            self._found.pop(one.uid, None)
            self._found[one.uid] = _Found(found or first, traffic, prometheus, now)
            if len(self._found) > MOST:  # of Rollouts that are gone nobody says so
                del self._found[next(iter(self._found))]
        return found or first

    async def _counting(self, one: Declared, routers: Mapping[str, RouterSeries]) -> str | None:
        target, poller = target_of(one), self.of(one).poller
        for name, series in routers.items():
            pattern = series.pattern(target)
            for family in series.families:
                answer = await poller.read(family, (series.requests,), pattern)
                if any(series.variant(labels.labels, target) for labels in answer.found.series):
                    return name
        return None

    async def aclose(self) -> None:
        for endpoint in self._by_name.values():
            await endpoint.api.aclose()


def target_of(one: Declared) -> Target:
    """What a Rollout is to a router's counters."""
    spec = one.spec
    return Target(
        namespace=one.namespace,
        route=one.rollout.route,
        additional=spec.traffic.additional,
        stable=spec.service,
        canary=spec.canary_service,
        workloads=(spec.workload.name, spec.canary_name),
        backends=("stable", "canary"),
    )


def _endpoint(urls: Sequence[str], fresh: float) -> Endpoint:
    api = PrometheusApi(urls)
    return Endpoint(api, Poller(api, fresh=fresh), Questions(api))
