"""What a running Traefik says about itself, over its loopback API. Reads only."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from phoenix_orch.runtime.detached import Process
from phoenix_orch.traffic.router import TrafficSeen
from phoenix_orch.traffic.traefik_config import MARKER, PROVIDER, parse_service_name

UNSEEN = TrafficSeen(weight=None)

Services = dict[str, Any]
_PATIENT = 3
"""Times its patience that a whole answer may take: httpx counts from one piece of it to the next."""


class RouterInfo(BaseModel):
    """The router of this machine, as `router.json` names it for every process that wants to know."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    process: Process
    listen: str
    admin: str
    """Base address of API and metrics, on loopback."""
    config: str
    """Fingerprint of the static configuration, without the latency edges."""
    edges: tuple[float, ...]
    """Upper edges of its latency histogram in seconds."""

    @property
    def pid(self) -> int:
        return self.process.pid


def info_path(directory: Path) -> Path:
    return directory / "router.json"


def running(directory: Path) -> RouterInfo | None:
    """The router that `router.json` names, if that very process lives."""
    try:
        info = RouterInfo.model_validate_json(info_path(directory).read_bytes())
    except (OSError, ValidationError):
        return None
    return info if info.process.alive else None


@contextlib.asynccontextmanager
async def client(admin: str, patience: float) -> AsyncIterator[httpx.AsyncClient]:
    """A client for one short conversation; `patience` in seconds. Loopback knows no proxies."""
    async with httpx.AsyncClient(base_url=admin, timeout=patience, trust_env=False, verify=False) as http:  # noqa: S501 - no TLS
        yield http


async def ping(admin: str, patience: float = 1.0) -> bool:
    """Whether Traefik answers. It does so before it has read its routes."""
    try:
        async with client(admin, patience) as http:
            return (await http.get("/ping")).is_success
    except httpx.HTTPError:
        return False


async def obeyed(admin: str, patience: float = 1.0) -> str | None:
    """The marker of the table in force, empty before there is one; None when Traefik does not say."""
    try:
        async with client(admin, patience) as http:
            answer = await http.get("/api/http/middlewares", params={"search": MARKER})
            names = [str(found["name"]) for found in answer.raise_for_status().json()]
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return None
    return next((name.removesuffix(PROVIDER) for name in names if name.startswith(MARKER)), "")


async def seen(admin: str, routes: tuple[str, ...], patience: float = 1.0) -> dict[str, TrafficSeen]:
    """What is in force for each of `routes`, told by one answer; all unseen when there is none."""
    services = await in_force(admin, patience)
    return {route: seen_of(route, services) for route in routes}


async def in_force(admin: str, patience: float = 1.0) -> Services:
    """All services of Traefik as it tells them; none when it does not answer."""
    try:
        async with asyncio.timeout(_PATIENT * patience), client(admin, patience) as http:
            answer = await http.get("/api/rawdata")
            services: Services = answer.raise_for_status().json().get("services", {})
    except (httpx.HTTPError, ValueError, TimeoutError):
        return {}
    return services


def seen_of(route: str, services: Services) -> TrafficSeen:
    """What is in force for one route."""
    top = services.get(f"{route}{PROVIDER}", {})
    if top.get("status") != "enabled":
        return UNSEEN
    weights: dict[str, int] = {}
    revisions: dict[str, str] = {}
    urls: set[str] = set()
    for entry in top.get("weighted", {}).get("services", ()):
        name = parse_service_name(entry["name"])
        if name is None:
            return UNSEEN
        weights[name.variant] = weights.get(name.variant, 0) + int(entry.get("weight", 1))
        revisions[name.variant] = name.revision
        leaf = services.get(f"{entry['name'].removesuffix(PROVIDER)}{PROVIDER}", {})
        servers = leaf.get("loadBalancer", {}).get("servers") or ()
        urls.update(server["url"] for server in servers)
    total = sum(weights.values())
    if total == 0:
        return UNSEEN
    return TrafficSeen(
        weight=round(100 * weights.get("canary", 0) / total),
        canary_revision=revisions.get("canary"),
        stable_revision=revisions.get("stable"),
        backends=frozenset(urls),
    )
