"""How ingress controllers and gateways name what they count. Pure.

What a Prometheus adds to the series of a scraped program has precedence over the program's own labels,
which are then called `exported_…`: `namespace` and `service` may be those of the controller itself.

The names that Traefik makes are joined with a character that is in names, too. What could be read in two
ways is nobody's here: a rollout without requests is held, one with another's would be judged by them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, Protocol

from phoenix_orch.health_validator.sources.prometheus_poller import Family

Variant = Literal["canary", "stable"]


@dataclass(frozen=True, slots=True)
class Target:
    """What a rollout is to a router of a cluster."""

    namespace: str
    route: str
    """The main Ingress, or the HTTPRoute."""
    stable: str
    """Service of stable."""
    canary: str
    """Service of the canary."""
    workloads: tuple[str, ...] = ()
    """Names of the Deployments of both."""
    backends: tuple[Variant, ...] = field(default=())
    """Of the HTTPRoute's rules: whose each `backendRefs` entry is."""
    additional: tuple[str, ...] = ()
    """Further Ingresses or HTTPRoutes with the same Services."""

    @property
    def routes(self) -> tuple[str, ...]:
        return (self.route, *self.additional)


class RouterSeries(Protocol):
    """The counters of one kind of router."""

    @property
    def families(self) -> tuple[Family, ...]:
        """Labels that say whose a series is; the first that anything is found by."""
        ...

    @property
    def requests(self) -> str:
        """Name of the counter of requests."""
        ...

    @property
    def bucket(self) -> str:
        """Name of the classic histogram of the time to answer."""
        ...

    @property
    def unit(self) -> float:
        """Seconds of one unit of the bucket's edges."""
        ...

    def pattern(self, target: Target) -> str:
        """Regular expression of the values of the label that may be the target's."""
        ...

    def variant(self, labels: Mapping[str, str], target: Target) -> Variant | None:
        """Who answered the requests of a series; None: somebody else."""
        ...


class IngressNginx:
    """kubernetes/ingress-nginx. `ingress` is the main one's for both variants, and `canary` names the
    alternative backend that answered."""

    families = (Family("ingress"),)
    requests = "nginx_ingress_controller_requests"
    bucket = "nginx_ingress_controller_request_duration_seconds_bucket"
    unit = 1.0

    def pattern(self, target: Target) -> str:
        return _any(target.routes)

    def variant(self, labels: Mapping[str, str], target: Target) -> Variant | None:
        if _own(labels, "namespace") != target.namespace or labels.get("ingress") not in target.routes:
            return None
        answered = labels.get("canary", "")
        if not answered:
            return "stable" if _own(labels, "service") == target.stable else None
        return "canary" if _is_upstream(answered, target.namespace, target.canary) else None


def _is_upstream(name: str, namespace: str, service: str) -> bool:
    """`<namespace>-<service>-<port>`; the port by its number or its name."""
    return re.fullmatch(f"{re.escape(f'{namespace}-{service}')}-{_PORT}", name) is not None


_PORT = "[a-z0-9]+"
"""A name with a hyphen would leave open where the service's name ends."""


class _Traefik:
    """What both of Traefik's providers have in common: how the series are called."""

    families = (Family("service"), Family("exported_service"))
    requests = "traefik_service_requests_total"
    bucket = "traefik_service_request_duration_seconds_bucket"
    unit = 1.0


def _answered(labels: Mapping[str, str], canary: re.Pattern[str], stable: re.Pattern[str]) -> Variant | None:
    """Who, by the name that Traefik gave the service."""
    if labels.get("protocol", "http") != "http":
        return None  # a stream's duration is not a latency, nor is it one request among others
    name = _own(labels, "service") or ""
    if canary.fullmatch(name):
        return "canary"
    return "stable" if stable.fullmatch(name) else None


class TraefikIngress(_Traefik):
    """Traefik's provider kubernetesIngressNGINX: `<namespace>-<ingress>-<service>-<port>`, and the canary is
    named after stable's service, with `-canary` at the end."""

    def pattern(self, target: Target) -> str:
        return f"{_ingress_prefix(target)}-{_PORT}(-canary)?@kubernetesingressnginx"

    def variant(self, labels: Mapping[str, str], target: Target) -> Variant | None:
        return _answered(labels, *_ingress_names(target))


class TraefikGateway(_Traefik):
    """Traefik's provider kubernetesGateway, version 3.7:
    `httproute-<namespace>-<route>-gw-…-svc-<namespace>-<service>-<place among the rule's backends>`."""

    def pattern(self, target: Target) -> str:
        services = f"({re.escape(target.stable)}|{re.escape(target.canary)})"
        return _gateway_name(target, services)

    def variant(self, labels: Mapping[str, str], target: Target) -> Variant | None:
        return _answered(labels, *_gateway_names(target))


class EnvoyGateway:
    """Envoy Gateway: `httproute/<namespace>/<route>/rule/<n>/backend/<n>`. It counts by backend only when a
    backend has a filter of its own; otherwise the pods' own metrics are the source to choose."""

    families = (Family("envoy_cluster_name"),)
    requests = "envoy_cluster_upstream_rq"
    bucket = "envoy_cluster_upstream_rq_time_bucket"
    unit = 0.001

    def pattern(self, target: Target) -> str:
        return f"httproute/{re.escape(target.namespace)}/{_any(target.routes)}/rule/[0-9]+/backend/[0-9]+"

    def variant(self, labels: Mapping[str, str], target: Target) -> Variant | None:
        name = labels.get("envoy_cluster_name", "")
        if not re.fullmatch(self.pattern(target), name):
            return None
        place = int(name.rsplit("/", 1)[1])
        return target.backends[place] if place < len(target.backends) else None


def _any(names: Sequence[str]) -> str:
    """Regular expression of one of them."""
    told = "|".join(re.escape(name) for name in names)
    return f"({told})" if len(names) > 1 else told


def _ingress_prefix(target: Target) -> str:
    return f"{re.escape(target.namespace)}-{_any(target.routes)}-{re.escape(target.stable)}"


@lru_cache(maxsize=4096)
def _ingress_names(target: Target) -> tuple[re.Pattern[str], re.Pattern[str]]:
    prefix = _ingress_prefix(target)
    return (
        re.compile(f"{prefix}-{_PORT}-canary@kubernetesingressnginx"),
        re.compile(f"{prefix}-{_PORT}@kubernetesingressnginx"),
    )


def _gateway_name(target: Target, service: str) -> str:
    route = f"{re.escape(f'httproute-{target.namespace}')}-{_any(target.routes)}"
    return f"{route}-gw-.+-svc-{re.escape(target.namespace)}-{service}-[0-9]+@kubernetesgateway"


@lru_cache(maxsize=4096)
def _gateway_names(target: Target) -> tuple[re.Pattern[str], re.Pattern[str]]:
    return (
        re.compile(_gateway_name(target, re.escape(target.canary))),
        re.compile(_gateway_name(target, re.escape(target.stable))),
    )


def _own(labels: Mapping[str, str], name: str) -> str | None:
    """The label as the program gave it."""
    return labels.get(f"exported_{name}", labels.get(name))
