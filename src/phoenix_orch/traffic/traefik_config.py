"""What Traefik is told: its static configuration, and the dynamic one of a route. Pure.

Everything is rendered as plain values; the files are JSON, which is YAML too. Facts about Traefik 3.7
that shaped this file, all seen on the real thing by tests/integration/test_embedded_router.py:

- **Dying instances are hidden by retry, not by health checks.** `retry` repeats a request only when no
  byte of it reached a backend (the connection was refused), so a POST is as safe as a GET; a backend
  killed in the middle of a request is a 502 for that request, and rightly so. Each failed attempt still
  counts on the service that failed: evidence is complete while users see nothing.
- Health checks, active or passive, take a dead canary out of the wheel and answer its share with 503
  that no service counter shows: the evidence against it would vanish. Readiness is the supervisor's
  business; when the supervisor is dead, retry goes on covering for single dead instances.
- Weighted round robin is exact and periodic, and every reload starts the wheel anew. A variant therefore
  has several places on the wheel, with weights of their own: see `PLACES`.
- Only the file that is named is obeyed; what else lies in its directory means nothing (ADR 0007). An empty
  configuration is skipped, and a file that is missing at the start is never picked up later.
- SIGHUP makes it read the file again, also when the file system no longer tells it of changes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple, get_args

from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.traffic.router import Group, TrafficState
from phoenix_orch.traffic.rules import share
from phoenix_orch.traffic.spec import RouterSpec, RouteSpec

Variant = Literal["stable", "canary"]
Config = dict[str, object]

BUCKETS: tuple[float, ...] = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5),
    *(0.75, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0),
)
"""Upper edges of the latency histogram in seconds: fine around the limits people set."""

ENTRY_POINT = "web"
PROVIDER = "@file"
METRICS_PATH = "/metrics"

ATTEMPTS = 20
"""Tries of one request in all. The tries of many requests take turns on the wheel, so the next try may
well meet the same dead backend again. With one of two backends dead, 16 users and busy cores, of 32,000
requests 31,044 needed a second try, 2,447 a fourth, 341 a sixth, 42 an eighth, one a twelfth. A refused
connection on loopback costs some 0.1 ms."""

PLACES: Mapping[Variant, tuple[int, ...]] = {"stable": (44, 28, 28), "canary": (45, 22, 33)}
"""How the share of a variant is dealt out among its places on the wheel; each adds up to 100.

With one place at 5 % each 20th request goes to the canary: users who ask for 20, 10, 5, 4 or 2 kinds of
things in turn would send one and the same kind there and never another. The places turn at speeds of
their own, so that every kind comes by. The share stays exact: over 10,000 requests, and over 2,000 at
5 %; on the way it is never off by more than three requests."""

MARKER = "phoenix.table."
_WAITING = "phoenix.waiting"
RETRY_AFTER = 1
"""Seconds that those are told to wait who come before anything of a route is ready."""

_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,62}")
_URL = re.compile(r"https?://[A-Za-z0-9.\[\]:_-]+(/[^\s`{}\"'\\]*)?")


class ServiceName(NamedTuple):
    """What a service of Traefik, and so a label of its metrics, stands for."""

    route: str
    variant: Variant
    revision: str


def service_name(route: str, variant: Variant, revision: str) -> str:
    """`web.canary.3f2a9c01de`: a new revision is a new service, so counters never mix.

    A route is a DNS label and holds no dot, so the name can be taken apart again.
    """
    return f"{route}.{variant}.{revision}"


def parse_service_name(label: str) -> ServiceName | None:
    """The opposite of `service_name`, also of the metrics label `web.canary.3f2a9c01de@file`.
    None for services that are not a variant of a route."""
    parts = label.removesuffix(PROVIDER).split(".", 2)
    if len(parts) != 3 or "@" in parts[2] or not all(parts):
        return None
    for variant in get_args(Variant):
        if parts[1] == variant:
            return ServiceName(parts[0], variant, parts[2])
    return None


def dynamic_config(spec: RouteSpec, state: TrafficState) -> Config:
    """The routers, services and middlewares of one route.

    Raises Invalid for a revision or a backend address that could be misread on the way.
    """
    route = state.route
    groups: list[tuple[Variant, Group, int]] = [("stable", state.stable, 100 - share(state))]
    if state.canary and state.canary.backends:
        groups.append(("canary", state.canary, share(state)))
    services: Config = {
        route: {
            "weighted": {
                "services": [
                    {"name": service_name(route, variant, _checked(group).revision), "weight": place * weight}
                    for variant, group, weight in groups
                    for place in PLACES[variant]
                ]
            }
        }
    }
    for variant, group, _weight in groups:
        servers = [{"url": backend.url} for backend in group.backends]
        services[service_name(route, variant, group.revision)] = {"loadBalancer": {"servers": servers}}
    retry = f"{route}.retry"
    served = any(group.backends for _, group, _ in groups)
    # Without any server Traefik answers 503 by itself, and counts that for no variant.
    middleware: Config = {retry: {"retry": {"attempts": ATTEMPTS}}} if served else _retry_after()
    return {
        "routers": {route: _router(route, spec, *middleware)},
        "services": services,
        "middlewares": middleware,
    }


def waiting_config(route: str, spec: RouteSpec) -> Config:
    """A route of which nothing is ready yet: 503, and when to try again."""
    return {
        "routers": {route: _router(route, spec, _WAITING)},
        "services": {route: {"loadBalancer": {"servers": []}}},
        "middlewares": _retry_after(),
    }


def _retry_after() -> Config:
    return {_WAITING: {"headers": {"customResponseHeaders": {"Retry-After": str(RETRY_AFTER)}}}}


def table_config(routes: Iterable[Config]) -> tuple[Config, str]:
    """The whole file of all `routes`, and its marker: a middleware that nothing uses, named after the rest.

    Traefik names it where it is asked for its middlewares, and so what it obeys can be told. It also keeps
    the table of no routes from being empty, which Traefik would skip and go on with what it has.
    """
    http: dict[str, dict[str, object]] = {"routers": {}, "services": {}, "middlewares": {}}
    for route in routes:
        for kind, entries in http.items():
            found = route[kind]
            assert isinstance(found, dict)
            entries.update(found)
    marker = MARKER + fingerprint(http)
    http["middlewares"][marker] = {"headers": {"customResponseHeaders": {"X-Phoenix-Table": "unused"}}}
    return {"http": {kind: entries for kind, entries in http.items() if entries}}, marker


def _router(route: str, spec: RouteSpec, *middlewares: str) -> Config:
    return {
        "entryPoints": [ENTRY_POINT],
        "rule": _rule(spec),
        "priority": _priority(spec),
        "middlewares": list(middlewares),
        "service": route,
    }


def _checked(group: Group) -> Group:
    if not _REVISION.fullmatch(group.revision):
        raise Invalid(
            f"{group.revision!r} cannot name a revision",
            remedy="use up to 63 letters, digits, dots, dashes, underscores and pluses",
        )
    for backend in group.backends:
        if not _URL.fullmatch(backend.url):
            raise Invalid(
                f"instance {backend.instance!r} has the address {backend.url!r}",
                remedy="a backend is http://HOST:PORT",
            )
    return group


def _rule(spec: RouteSpec) -> str:
    prefix = spec.path_prefix
    # PathPrefix compares characters, not segments: /api would take /apix too.
    path = "PathPrefix(`/`)" if prefix == "/" else f"(Path(`{prefix}`) || PathPrefix(`{prefix}/`))"
    return f"Host(`{spec.host}`) && {path}" if spec.host else path


def _priority(spec: RouteSpec) -> int:
    """Traefik's own priority is the length of the rule's text, which is not how exact it is."""
    return len(spec.path_prefix) + (10_000 if spec.host else 0)


def bucket_edges(extra: Iterable[float]) -> tuple[float, ...]:
    """The default ladder with the limits of all rollouts as further edges, rising."""
    return tuple(sorted({*BUCKETS, *extra}))


def static_config(
    spec: RouterSpec, *, admin: str, dynamic: str, log: str, edges: tuple[float, ...]
) -> Config:
    """What Traefik reads once, at its start.

    `admin` is the loopback address of API and metrics, `dynamic` the file of routes, `log` a file.
    """
    return {
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "entryPoints": {
            ENTRY_POINT: {
                "address": spec.listen,
                "transport": {"lifeCycle": {"graceTimeOut": "10s"}},
            },
            # By this name Traefik finds the entry point of API, metrics and ping. Loopback only.
            "traefik": {"address": admin},
        },
        "serversTransport": {
            "forwardingTimeouts": {
                "dialTimeout": "1s",
                # As with NGINX: a backend that hangs costs its users a minute, not for ever.
                "responseHeaderTimeout": "60s",
                # Shorter than the keep-alive of common servers (2-5 s): a connection that the backend
                # is about to close is not used for a request that could not be repeated.
                "idleConnTimeout": "1s",
            }
        },
        "providers": {
            # The default of 2 s would be the time an abort takes to have effect.
            "providersThrottleDuration": "50ms",
            "file": {"filename": dynamic, "watch": True},
        },
        "api": {"insecure": True, "dashboard": False},
        "ping": {},
        "metrics": {
            "prometheus": {
                "addServicesLabels": True,
                "addEntryPointsLabels": False,
                "buckets": list(edges),
            }
        },
        "log": {"level": "INFO", "noColor": True, "filePath": log, "maxSize": 5, "maxBackups": 2},
    }


def fingerprint(config: Mapping[str, object]) -> str:
    """Twelve hexadecimal digits that differ when Traefik has to be started anew for `config`."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
