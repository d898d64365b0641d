"""What a candidate has to offer to be measured."""

import asyncio
import http.client
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks.router.processes import Child

LABEL = re.compile(r'(\w+)="([^"]*)"')

BUCKETS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is true of the pinned wheel without running it, as its package index entry says."""

    distribution: str
    licence: str
    wheel_megabytes: float
    platforms: tuple[str, ...]
    counters_from: str
    change_by: str


@dataclass(frozen=True, slots=True)
class Site:
    """Where one candidate runs and whom it serves."""

    directory: Path
    web: int
    admin: int
    stable: int
    canary: int

    def replace(self, name: str, text: str) -> None:
        """Write a file so that a reader sees all of the old one or all of the new one."""
        new = self.directory / f"{name}.new"
        new.write_text(text)
        new.replace(self.directory / name)


@dataclass(slots=True)
class Counted:
    """One variant as the router itself counted it."""

    requests: int = 0
    errors: int = 0
    buckets: dict[float, int] = field(default_factory=dict)


class Candidate(Protocol):
    """A router that splits requests between two variants by weight."""

    name: str
    facts: Facts
    binary: Path
    site: Site

    def start(self) -> Child:
        """Start the router with the weight last written, and do not wait for it."""
        ...

    def write(self, canary: int) -> None:
        """Put the canary's weight (percent) where the router reads it."""
        ...

    async def announce(self, child: Child) -> None:
        """Whatever the router needs beyond the written file to take the weight over."""
        ...

    async def counters(self) -> dict[str, Counted]:
        """Requests, errors and latency buckets per variant since the router's start."""
        ...


async def admin(site: Site, path: str, method: str = "GET", body: str | None = None) -> str:
    """One exchange with the router's own administration port."""

    def exchange() -> str:
        connection = http.client.HTTPConnection("127.0.0.1", site.admin, timeout=5)
        try:
            connection.request(method, path, body)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    return await asyncio.to_thread(exchange)


def samples(exposition: str) -> Iterator[tuple[str, dict[str, str], float]]:
    """Name, labels and value of every sample in a Prometheus text exposition."""
    for line in exposition.splitlines():
        name, brace, rest = line.partition("{")
        if line.startswith("#") or not brace:
            continue
        labels, _, value = rest.rpartition("} ")
        yield name, dict(LABEL.findall(labels)), float(value)
