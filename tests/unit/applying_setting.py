"""Configurations applied to a store in memory, a router in a directory, and processes that do not run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from phoenix_orch.kernel.clock import ManualClock
from phoenix_orch.orchestrator.applying import Applying
from phoenix_orch.orchestrator.config import PhoenixFile
from phoenix_orch.rollout.store.memory import MemoryStore
from phoenix_orch.testing.fake_workload import FakeWorkload
from phoenix_orch.traffic.embedded import EmbeddedRouter
from phoenix_orch.traffic.router import Backend, Group, TrafficState

SECRET = "hunter2"


def config(
    routes: dict[str, Any] | None = None,
    *,
    version: str = "1",
    rollouts: dict[str, Any] | None = None,
    replicas: int = 2,
) -> PhoenixFile:
    """One service for every route named; `{"web": "/"}` says route and path prefix."""
    routes = routes or {"web": "/"}
    service = {
        "version": version,
        "command": "serve {port}",
        "env": {"TOKEN": SECRET},
        "replicas": replicas,
    }
    return PhoenixFile.model_validate(
        {
            "services": dict.fromkeys(routes, service),
            "routes": {name: {"service": name, "pathPrefix": prefix} for name, prefix in routes.items()},
            "rollouts": rollouts or {},
        }
    )


def revision_of(file: PhoenixFile, service: str = "web") -> str:
    return file.services[service].template().revision


def group(revision: str, *ports: int) -> Group:
    backends = tuple(
        Backend(instance=f"i{port}", url=f"http://127.0.0.1:{port}") for port in ports or (20_000,)
    )
    return Group(revision=revision, backends=backends)


class Place:
    """One data directory; `applying` is what a start of Phoenix makes of it."""

    def __init__(self, directory: Path) -> None:
        self.kept = directory / "applied.json"
        self.clock = ManualClock()
        self.store = MemoryStore()
        self.router = EmbeddedRouter(directory / "router")
        self.workload = FakeWorkload(self.clock)

    def applying(self, *, anew: bool = False) -> Applying:
        return Applying(
            store=self.store,
            router=self.router,
            workload=self.workload,
            clock=self.clock,
            kept=self.kept,
            anew=anew,
        )

    async def serve(self, route: str, revision: str, **more: Any) -> TrafficState:
        """Write the route's traffic object, stable first."""
        return await self.router.write(TrafficState(route=route, stable=group(revision), **more))

    async def picture(self) -> object:
        """All that an apply may change: store, workload, router, file."""
        routes = {
            path.name: path.read_text() for path in sorted((self.router.directory / "dynamic").glob("*"))
        }
        services = sorted(self.workload._services.items())
        specs = [(name, known.spec, dict(known.wanted)) for name, known in services]
        text = self.kept.read_text() if self.kept.exists() else None
        return await self.store.rollouts(), specs, routes, dict(self.router._specs), text
