"""What every component stands on, and the two that also run in processes of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from phoenix_orch.health_validator.service import HealthValidator
from phoenix_orch.health_validator.sources.scrape import Scraper
from phoenix_orch.health_validator.sources.source import EvidenceSource
from phoenix_orch.kernel.clock import Clock
from phoenix_orch.kernel.errors import PhoenixError
from phoenix_orch.orchestrator.declared import route_call
from phoenix_orch.orchestrator.evidence import evidence_sources
from phoenix_orch.orchestrator.kept_config import read_kept
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.orchestrator.standby import is_led, leading
from phoenix_orch.rollback_controller.checks import Route
from phoenix_orch.rollback_controller.service import RollbackController
from phoenix_orch.rollout.store.valkey import ValkeyStore
from phoenix_orch.traffic.embedded import EmbeddedRouter
from phoenix_orch.workload.view import FileWorkloadView
from phoenix_orch.workload.workload import WorkloadView

LONGEST_ANSWER = 2.5
"""Seconds after which a store that hangs is told of; those who ask wait 5 s in all."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The ports of one data directory."""

    layout: Layout
    clock: Clock
    speed: float
    store_url: str
    store: ValkeyStore
    router: EmbeddedRouter
    view: WorkloadView
    sources: Mapping[str, EvidenceSource]


@asynccontextmanager
async def open_parts(layout: Layout, clock: Clock, store_url: str, speed: float) -> AsyncIterator[Parts]:
    """Connect to what is there; starts nothing."""
    store, router = ValkeyStore(store_url), EmbeddedRouter(layout.router)
    async with Scraper() as scraper:
        try:
            yield Parts(
                layout=layout,
                clock=clock,
                speed=speed,
                store_url=store_url,
                store=store,
                router=router,
                view=FileWorkloadView(layout.root),
                sources=evidence_sources(router, scraper),
            )
        finally:
            await store.close()


class Routes(Mapping[str, Route]):
    """How each route of the configuration applied last is called; read again whenever it has changed.

    While the file cannot be read the routes known last stay.
    """

    def __init__(self, applied: Path) -> None:
        self._applied = applied
        self._stamp: tuple[int, int] | None = None
        self._routes: dict[str, Route] = {}

    def _read(self) -> dict[str, Route]:
        try:
            stat = self._applied.stat()
            if (stamp := (stat.st_mtime_ns, stat.st_ino)) != self._stamp:
                self._stamp = stamp
                config = read_kept(self._applied)
                self._routes = {name: route_call(config, name) for name in config.routes} if config else {}
        except (OSError, PhoenixError):
            pass
        return self._routes

    def __getitem__(self, route: str) -> Route:
        return self._read()[route]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())


async def run_health_validator(parts: Parts) -> None:
    """Observe and judge while this process is the one that does."""
    async with leading(parts.layout.lock("health-validator"), "health-validator"):
        validator = HealthValidator(parts.store, parts.router, parts.view, parts.sources, parts.clock)
        await validator.run()


async def run_rollback_controller(parts: Parts) -> None:
    """Watch for reasons to take a revision back while this process is the one that does."""
    async with leading(parts.layout.lock("rollback-controller"), "rollback-controller"):
        routes = Routes(parts.layout.config)
        controller = RollbackController(
            parts.store,
            parts.router,
            parts.view,
            parts.clock,
            route=lambda name: routes.get(name, Route()),
        )
        await controller.run()


async def component_states(parts: Parts) -> list[dict[str, str]]:
    """Each component with its state: `ok`, or what is wrong."""
    states = [{"name": "orchestrator", "state": "ok"}]
    for component in ("health-validator", "rollback-controller"):
        led = is_led(parts.layout.lock(component))
        states.append({"name": component, "state": "ok" if led else "nobody runs it"})
    store, router = await asyncio.gather(store_state(parts.store), parts.router.condition())
    return [*states, {"name": "store", "state": store}, {"name": "router", "state": router}]


async def store_state(store: ValkeyStore) -> str:
    """`ok`, or what is wrong."""
    try:
        async with asyncio.timeout(LONGEST_ANSWER):
            await store.ping()
    except PhoenixError as error:
        return error.message
    except TimeoutError:
        return "does not answer"
    return "ok"
