"""The router of one machine: Traefik, steered through files.

Reading and writing need only the directory, so that an abort works from a bare command line while
everything else is dead (rule R2): Traefik sees the changed file by itself. Only `observe` talks to
Traefik. Starting and keeping it alive is `traefik_process.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from phoenix_orch.kernel.errors import Invalid, NotFound
from phoenix_orch.runtime.joined import Joined
from phoenix_orch.traffic import rules
from phoenix_orch.traffic.refusing import refusing
from phoenix_orch.traffic.route_files import RouteFiles
from phoenix_orch.traffic.router import MetricsPage, TrafficSeen, TrafficState
from phoenix_orch.traffic.spec import RouteSpec
from phoenix_orch.traffic.state_file import RouteObject
from phoenix_orch.traffic.traefik_api import RouterInfo, Services, in_force, running, seen_of
from phoenix_orch.traffic.traefik_config import METRICS_PATH
from phoenix_orch.traffic.traefik_watch import Finding, nudge, settled

ROUTER_GONE = "does not run"


class EmbeddedRouter:
    """The TrafficRouter of a machine without a cluster. Holds nothing open: needs no closing."""

    def __init__(self, directory: Path, *, timeout: float = 1.0) -> None:
        """`directory`: where all processes of this Phoenix keep the router. `timeout`: seconds to wait
        for Traefik's API."""
        self.directory = directory.resolve()
        self._files = RouteFiles(self.directory)
        self._specs: dict[str, RouteSpec] = {}
        self._timeout = timeout
        self._in_force = Joined(self._ask)

    async def declare(self, route: str, spec: RouteSpec) -> None:
        """Say which requests the route takes. Idempotent; changes an existing route at once.

        A route that does not exist yet takes shape with its first write (version 0); until then its
        requests are answered with 503. One that was never declared takes every request. Raises Invalid
        when another route takes the same ones.
        """
        await self.declare_all({route: spec})

    async def declare_all(self, specs: Mapping[str, RouteSpec]) -> None:
        """As `declare`, of several routes, which may take over requests from each other.

        All of them are checked before the first one is changed.
        """
        await asyncio.to_thread(self._declare_all, specs)

    async def remove(self, route: str) -> None:
        """Forget the route; its requests are answered with 404 from then on. Idempotent."""
        self._specs.pop(route, None)
        await asyncio.to_thread(self._files.remove, route)

    async def routes(self) -> tuple[str, ...]:
        return await asyncio.to_thread(self._files.routes)

    async def condition(self, *, within: float = 1.0) -> str:
        """`ok`, or what is wrong with the router; a change has `within` seconds to take effect."""
        info = await asyncio.to_thread(running, self.directory)
        if info is None:
            return ROUTER_GONE
        return _condition(info, await settled(info, self._files, within))

    async def insist(self) -> str:
        """Wait until the router obeys what was written, and tell it to when it has not heard; its condition.

        For a command that has nobody else to look after that; `TraefikProcess.keep` does it otherwise.
        """
        info = await asyncio.to_thread(running, self.directory)
        if info is None:
            return ROUTER_GONE
        found = await settled(info, self._files, 1.0)
        if found is Finding.DEAF:
            nudge(info)
            found = await settled(info, self._files, 1.0)
        return _condition(info, found)

    async def expect(self, route: str, spec: RouteSpec) -> None:
        """Answer 503 for a route that may still be refused, unless it, or its requests, are known already."""
        await asyncio.to_thread(self._expect, route, spec)

    async def read(self, route: str) -> TrafficState:
        """As `TrafficRouter.read`; Invalid when another release of Phoenix wrote the file."""
        return (await asyncio.to_thread(self._files.read, route)).state

    async def write(self, wanted: TrafficState) -> TrafficState:
        def change(current: RouteObject | None) -> RouteObject:
            state = rules.written(current.state if current else None, wanted)
            return RouteObject(spec=self._spec(wanted.route, current), state=state)

        return (await asyncio.to_thread(self._files.write, wanted.route, change)).state

    async def abort(self, route: str, revision: str) -> TrafficState:
        """As `TrafficRouter.abort`. Read and written under one lock, so there is no conflict to retry;
        on a full disk it uses the space kept for this."""

        def change(current: RouteObject | None) -> RouteObject:
            existing = _existing(route, current)
            return _with_state(existing, rules.aborted(existing.state, revision))

        return (await asyncio.to_thread(self._files.write, route, change, reserve=True)).state

    async def drop_refusing(self) -> frozenset[str]:
        """Take addresses at which nobody listens out of the table, and give them.

        For the moment before a router is started: what the table says may be older than a stop of everything.
        Requests to a route without any address are answered with 503 by the router itself, and are counted
        for no variant (ADR 0014); the next write that finds an instance ready brings the addresses back.
        """
        routes = (await asyncio.to_thread(self._files.table)).routes
        states = [found.state for found in routes.values()]
        groups = [group for state in states for group in (state.stable, state.canary) if group is not None]
        dead = await refusing(backend.url for group in groups for backend in group.backends)

        def change(found: RouteObject) -> RouteObject:
            return _with_state(found, rules.without(found.state, dead))

        if dead:
            await asyncio.to_thread(self._files.write_all, change)
        return dead

    async def clear_latch(self, route: str, revision: str) -> TrafficState:
        def change(current: RouteObject | None) -> RouteObject:
            existing = _existing(route, current)
            return _with_state(existing, rules.cleared(existing.state, revision))

        return (await asyncio.to_thread(self._files.write, route, change)).state

    async def observe(self, route: str) -> TrafficSeen:
        return (await self.observe_all((route,)))[route]

    async def observe_all(self, routes: tuple[str, ...]) -> dict[str, TrafficSeen]:
        """`observe` of many routes. Traefik tells all it has at once, so all who ask at the same time share
        one question; the answer is never older than the call."""
        services = await self._in_force.ask()
        return {route: seen_of(route, services) for route in routes}

    async def _ask(self) -> Services:
        info = await asyncio.to_thread(running, self.directory)
        return await in_force(info.admin, self._timeout) if info is not None else {}

    async def admin_url(self) -> str | None:
        """Base address of Traefik's API on loopback; None when no router runs."""
        info = await asyncio.to_thread(running, self.directory)
        return info.admin if info else None

    async def metrics_page(self, route: str) -> MetricsPage | None:  # noqa: ARG002 - one Traefik serves all
        """Where the counters of the route's variants are; `parse_service_name` reads their labels.
        None when no router runs. Changes when the router is started anew."""
        info = await asyncio.to_thread(running, self.directory)
        return MetricsPage(f"{info.admin}{METRICS_PATH}", info.pid) if info else None

    def _spec(self, route: str, current: RouteObject | None) -> RouteSpec:
        return current.spec if current else self._specs.get(route, RouteSpec(service=route))

    def _expect(self, route: str, spec: RouteSpec) -> None:
        table = self._files.table()
        known = [*(found.spec for found in table.routes.values()), *table.waiting.values()]
        if route not in table.routes and not any(_same_requests(spec, taken) for taken in known):
            self._files.wait_for(route, spec)

    def _declare_all(self, specs: Mapping[str, RouteSpec]) -> None:
        table = self._files.table()
        known = {name: found.spec for name, found in table.routes.items()} | self._specs
        wanted = {**known, **specs}
        for route, spec in specs.items():
            others = (name for name, taken in wanted.items() if name != route and _same_requests(taken, spec))
            if (other := next(others, None)) is not None:
                raise Invalid(
                    f"routes {other!r} and {route!r} both take {spec.host or 'any host'} {spec.path_prefix}",
                    remedy="give one of them another host or pathPrefix",
                )
        for other, taken in table.waiting.items():
            if other not in specs and any(_same_requests(taken, spec) for spec in specs.values()):
                self._files.remove(other, waiting_only=True)  # of a configuration that is no more
        self._specs.update(specs)
        for route, spec in specs.items():
            if route in table.routes:
                self._declare_written(route, spec)
            else:
                self._files.wait_for(route, spec)

    def _declare_written(self, route: str, spec: RouteSpec) -> None:
        def change(current: RouteObject | None) -> RouteObject:
            if current is None or current.spec == spec:
                return current or _existing(route, current)
            version = current.state.version + 1
            return RouteObject(spec=spec, state=current.state.model_copy(update={"version": version}))

        self._files.write(route, change)


def _condition(info: RouterInfo, found: Finding) -> str:
    return "ok" if found is Finding.OBEYS else f"{found.value} (pid {info.pid})"


def _same_requests(one: RouteSpec, other: RouteSpec) -> bool:
    return (one.host, one.path_prefix) == (other.host, other.path_prefix)


def _existing(route: str, current: RouteObject | None) -> RouteObject:
    if current is None:
        raise NotFound(f"there is no route {route!r}", remedy="it takes shape when its service is ready")
    return current


def _with_state(route: RouteObject, state: TrafficState) -> RouteObject:
    return route if state is route.state else route.model_copy(update={"state": state})
