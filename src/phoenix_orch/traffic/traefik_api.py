"""What a running Traefik says about itself, over its loopback API. Reads only."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from phoenix_orch.runtime import lost
from phoenix_orch.runtime.detached import Process
from phoenix_orch.traffic.router import TrafficSeen
from phoenix_orch.traffic.traefik_config import MARKER, PROVIDER, parse_service_name

UNSEEN = TrafficSeen(weight=None)
SELF = "PHOENIX_ROUTER"
"""In the environment of a router: what `router.json` says of it, for when that is lost."""

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
    """The router that `router.json` names, if that very process lives; else one that says it is that."""
    info = written(directory)
    if info is not None and info.process.alive:
        return info
    return next((info for one in processes(directory) if (info := _told(one)) is not None), None)


def written(directory: Path) -> RouterInfo | None:
    """What `router.json` says, of whatever process."""
    try:
        return RouterInfo.model_validate_json(info_path(directory).read_bytes())
    except (OSError, ValidationError):
        return None


def processes(directory: Path) -> list[Process]:
    """Every router that was started for this directory and lives, whether a file names it or not."""
    return lost.named(start_argument(directory))


def start_argument(directory: Path) -> str:
    """What a router is started with, and no other program."""
    # A file, not flags: Traefik prefers a traefik.yml that lies about, in /etc say, to its flags.
    return f"--configFile={directory.resolve() / 'traefik.yaml'}"


def _told(process: Process) -> RouterInfo | None:
    """What a router says of itself, by the environment that it was started with."""
    try:
        told = json.loads(lost.told(process, SELF))
        return RouterInfo.model_validate({**told, "process": process})
    except (ValueError, TypeError):
        return None


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
