"""What the router counts of those that are released: a page of metrics, and the Prometheus that reads it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from benchmarks.scale.world import NAMESPACE, name_of
from tests.integration import real_prometheus
from tests.integration.real_prometheus import Job

REQUESTS = 80.0
"""Of each service, a second."""
SHARE = 0.05
"""The canary's, as its weight says."""
_FAILING = 0.5


class Traffic:
    """Counters of Traefik that rise with time; canaries that were made bad fail half of their requests."""

    def __init__(self) -> None:
        self._begun: dict[int, float] = {}
        self._bad: dict[int, float] = {}
        self._start = time.time()

    def release(self, number: int) -> None:
        self._begun[number] = time.time()

    def spoil(self, number: int) -> None:
        self._bad[number] = time.time()

    def page(self) -> bytes:
        now = time.time()
        lines = [f"process_start_time_seconds {self._start}"]
        for number, begun in self._begun.items():
            name = name_of(number)
            service = f"{NAMESPACE}-{name}-{name}-80"
            served = int((now - begun) * REQUESTS * SHARE)
            bad = self._bad.get(number, now)
            lines += _counted(f"{service}@kubernetesingressnginx", int((now - begun) * REQUESTS) - served, 0)
            failed = int((now - bad) * REQUESTS * SHARE * _FAILING)
            lines += _counted(f"{service}-canary@kubernetesingressnginx", served, failed)
        return ("\n".join(lines) + "\n").encode()


def _counted(service: str, served: int, failed: int) -> list[str]:
    labels = f'method="GET",protocol="http",service="{service}"'
    lines = [
        f'traefik_service_requests_total{{code="200",{labels}}} {served - failed}',
        f'traefik_service_requests_total{{code="500",{labels}}} {failed}',
    ]
    for edge in ("0.05", "0.1", "0.3", "1.2", "+Inf"):
        bucket = f'traefik_service_request_duration_seconds_bucket{{code="200",le="{edge}",{labels}}}'
        lines.append(f"{bucket} {served}")
    return lines


@contextlib.contextmanager
def measured(traffic: Traffic) -> Iterator[str]:
    """The address of a Prometheus that reads it each second."""
    with (
        real_prometheus.page(traffic.page) as port,
        real_prometheus.running(Job("traefik", port, {})) as server,
    ):
        yield server.url
