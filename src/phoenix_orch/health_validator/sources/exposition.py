"""Counters in the Prometheus text format, as series that `counters` can follow. Pure.

A series is named `REVISION|KIND|NAME|LABELS`. Kinds: `ok` and `error` count requests that were answered,
`abandoned` those that clients gave up on; `le` counts answers up to the latency edge NAME, `waited` clients
that gave up until then; `business` counts what the spec calls NAME, `cpu` is milliseconds. Requests come in
whole numbers; what a business counts may come in fractions.

Pages can be long (Traefik writes about 22 lines for each service, method and status), and the parser of
prometheus_client takes some 20 microseconds a line; so lines that are of no interest are left out first,
while a page is read (`sieve`) and here. Labels without end are kept as a digest: they only tell series apart.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from phoenix_orch.health_validator import answers
from phoenix_orch.health_validator.sources.sieve import Interest
from phoenix_orch.rollout.spec import BusinessMetric, PlainValue
from phoenix_orch.traffic.traefik_config import parse_service_name

Series = tuple[str, float]

START = "process_start_time_seconds"
ROUTER_REQUESTS = "traefik_service_requests_total"
ROUTER_BUCKET = "traefik_service_request_duration_seconds_bucket"
REQUESTS = ("requests_total", "http_requests_total")
BUCKET = ("request_duration_seconds_bucket", "http_request_duration_seconds_bucket")
PATHS = ("path", "handler", "route", "endpoint")
PROBES = frozenset({"/metrics", "/healthz", "/health", "/livez", "/readyz", "/ready"})
"""Requests of whoever looks after the process are not its users'."""


LONGEST_LABELS = 64
"""Characters of a series' labels that are kept as they are."""


class Key(NamedTuple):
    """The parts of a series' name."""

    revision: str
    kind: str
    name: str
    labels: str

    def __str__(self) -> str:
        return "|".join(self)


def split(key: str) -> Key:
    """The opposite of `str(Key)`; labels may hold any character."""
    return Key(*key.split("|", 3))


class Page(NamedTuple):
    """What one page says."""

    started: float | None
    """Start of the process in seconds since 1970, if it tells."""
    series: tuple[Series, ...]


def router_interest(route: str) -> Interest:
    """Lines that `router_page` reads."""
    return Interest((ROUTER_REQUESTS, ROUTER_BUCKET), also=(START,), mark=_mark(route))


def process_interest(
    business: tuple[BusinessMetric, ...], values: tuple[PlainValue, ...], *, traffic: bool
) -> Interest:
    """Lines that `process_page` and `plain_values` read. `traffic`: requests and their duration, too."""
    names = [*(REQUESTS + BUCKET if traffic else ())]
    names += [name for metric in business for name in business_names(metric)]
    names += [value.gauge for value in values]
    return Interest(tuple(dict.fromkeys(names)), also=(START,))


def _mark(route: str) -> str:
    return f'service="{route}.'


def router_page(text: str, route: str) -> Page:
    """The counters of the route's variants. Raises ValueError for a text that is not the format."""
    mark = _mark(route)
    return _page(
        text,
        lambda line: line.startswith((ROUTER_REQUESTS, ROUTER_BUCKET)) and mark in line,
        lambda name, labels: _router_key(name, labels, route),
    )


def _router_key(name: str, labels: dict[str, str], route: str) -> Key | None:
    service = parse_service_name(labels.get("service", ""))
    if service is None or service.route != route:
        return None
    rest = rest_of(labels, leave_out=("service", "le"), also=service.variant)
    if name == ROUTER_REQUESTS:
        return Key(service.revision, answers.kind(labels.get("code", "")), "", rest)
    if labels.get("protocol") != "http":  # the duration of a stream is not a latency
        return None
    return Key(service.revision, timed(labels), edge(labels), rest)


def process_page(text: str, revision: str, business: tuple[BusinessMetric, ...]) -> Page:
    """The counters of a process. Raises ValueError for a text that is not the format.

    Of the two usual names for requests and their duration the first one that is there is taken.
    """
    requests = next((name for name in REQUESTS if _has(text, name)), REQUESTS[0])
    bucket = next((name for name in BUCKET if _has(text, name)), BUCKET[0])
    names = {requests, bucket, *(name for metric in business for name in business_names(metric))}

    def wanted(name: str, labels: dict[str, str]) -> Iterable[Key]:
        rest = rest_of(labels, leave_out=("le",))
        if name in (requests, bucket) and not PROBES.isdisjoint(labels.get(path) for path in PATHS):
            return
        if name == requests:
            yield Key(revision, answers.kind(answers.status(labels)), "", rest)
        elif name == bucket:
            yield Key(revision, timed(labels), edge(labels), rest)
        for metric in business:
            if name in business_names(metric) and metric.labels.items() <= labels.items():
                yield Key(revision, "business", metric.name, rest)

    return _pages(text, lambda line: line.startswith(tuple(names)), wanted)


def plain_values(text: str, values: tuple[PlainValue, ...]) -> dict[str, float]:
    """The gauges of a process by their name in the spec; of several series the worst. Values that are no
    finite numbers are none. Raises ValueError for a text that is not the format."""
    names = tuple({value.gauge for value in values})
    found: dict[str, float] = {}
    for name, labels, number in _samples(text, lambda line: line.startswith(names)):
        for value in values:
            fits = name == value.gauge and value.labels.items() <= labels.items()
            if fits and math.isfinite(number):
                found[value.name] = worse(value, number, found.get(value.name))
    return found


def worse(value: PlainValue, first: float, second: float | None) -> float:
    """The one of two readings that is nearer to a breach."""
    if second is None:
        return first
    return min(first, second) if value.minimum is not None else max(first, second)


def _page(
    text: str,
    interesting: Callable[[str], bool],
    key: Callable[[str, dict[str, str]], Key | None],
) -> Page:
    def keys(name: str, labels: dict[str, str]) -> Iterable[Key]:
        found = key(name, labels)
        return () if found is None else (found,)

    return _pages(text, interesting, keys)


def _pages(
    text: str,
    interesting: Callable[[str], bool],
    keys: Callable[[str, dict[str, str]], Iterable[Key]],
) -> Page:
    started: float | None = None
    series: list[Series] = []
    for name, labels, value in _samples(text, interesting):
        if name == START:
            started = value
        else:
            series.extend((str(key), counted(key, value)) for key in keys(name, labels))
    return Page(started, tuple(series))


def counted(key: Key, value: float) -> float:
    """In whole numbers, but for what a business counts."""
    whole = key.kind != "business" and math.isfinite(value)
    return float(math.trunc(value)) if whole else value


def _samples(text: str, interesting: Callable[[str], bool]) -> Iterator[tuple[str, dict[str, str], float]]:
    if text.lstrip()[:1] in ("<", "{"):
        raise ValueError("not a page of metrics")
    lines = [line for line in text.splitlines() if line.startswith(START) or interesting(line)]
    if not lines and not text.startswith("#"):
        raise ValueError("not a page of metrics")
    for family in text_string_to_metric_families("\n".join(lines) + "\n"):
        for sample in family.samples:
            yield sample.name, sample.labels, float(sample.value)


def _has(text: str, name: str) -> bool:
    return text.startswith(name) or f"\n{name}{{" in text or f"\n{name} " in text


def business_names(metric: BusinessMetric) -> tuple[str, str]:
    """A counter goes by its name with `_total` and without."""
    return metric.counter, f"{metric.counter.removesuffix('_total')}_total"


def timed(labels: Mapping[str, str]) -> str:
    """The kind of a latency bucket: of answers, or of clients that gave up."""
    return "waited" if answers.kind(answers.status(labels)) == "abandoned" else "le"


def edge(labels: Mapping[str, str], unit: float = 1.0) -> str:
    """The upper edge of a bucket in seconds; `unit`: seconds of one unit of `le`."""
    return repr(float(labels["le"]) * unit)


def rest_of(labels: Mapping[str, str], *, leave_out: tuple[str, ...], also: str = "") -> str:
    """What tells series apart that count the same, at most 64 characters."""
    values = [value for name, value in sorted(labels.items()) if name not in leave_out]
    found = ",".join([*values, also] if also else values)
    if len(found) <= LONGEST_LABELS:
        return found
    return hashlib.blake2b(found.encode(errors="replace"), digest_size=16).hexdigest()
