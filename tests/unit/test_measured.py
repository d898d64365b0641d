"""What is counted of requests to the API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.responses import StreamingResponse

from phoenix_orch.api import measured, problems
from phoenix_orch.api.measured import Measured, template
from phoenix_orch.observability import metrics

PREFIX = "/api/v1"


def app(begun: asyncio.Event, go_on: asyncio.Event) -> FastAPI:
    made, router = FastAPI(), APIRouter()
    problems.install(made)
    made.add_middleware(Measured, prefix=PREFIX)

    @router.get("/things/{name}")
    async def thing(name: str) -> str:
        if name == "broken":
            raise RuntimeError("nobody foresaw it")
        return name

    @router.get("/stream")
    async def stream() -> StreamingResponse:
        async def lines() -> AsyncIterator[str]:
            begun.set()
            yield "data: 1\n\n"
            await go_on.wait()

        return StreamingResponse(lines(), media_type="text/event-stream")

    made.include_router(router, prefix=PREFIX)
    return made


def client(made: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(made), base_url="http://phoenix")


def counted(route: str, code: str) -> float:
    return (
        metrics.REGISTRY.get_sample_value("requests_total", {"method": "GET", "route": route, "code": code})
        or 0.0
    )


async def test_a_request_counts_for_its_template_whatever_becomes_of_it() -> None:
    routes = {
        "/things/web": (f"{PREFIX}/things/{{name}}", "200"),
        "/things/broken": (f"{PREFIX}/things/{{name}}", "500"),
        "/things/a/b?secret=1": ("unmatched", "404"),
    }
    before = {path: counted(*key) for path, key in routes.items()}
    async with client(app(asyncio.Event(), asyncio.Event())) as http:
        for path in routes:
            await http.get(PREFIX + path)
    assert {path: counted(*key) - before[path] for path, key in routes.items()} == dict.fromkeys(routes, 1)
    page = metrics.page()[0].decode()
    assert "secret" not in page
    assert "/things/web" not in page


async def test_a_stream_of_events_is_timed_until_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on, now = asyncio.Event(), asyncio.Event(), [0.0]
    monkeypatch.setattr(measured, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    labels = {"method": "GET", "route": f"{PREFIX}/stream", "le": "0.5"}

    def quick() -> float:
        return metrics.REGISTRY.get_sample_value("request_duration_seconds_bucket", labels) or 0.0

    before = quick()
    async with client(app(begun, go_on)) as http:
        asked = asyncio.create_task(http.get(f"{PREFIX}/stream"))
        await begun.wait()
        now[0] = 3600.0  # somebody looks on for an hour
        go_on.set()
        await asked
    assert quick() == before + 1


@pytest.mark.parametrize(
    ("path", "asked", "found"),
    [
        ("/rollouts/{name}", "/api/v1/rollouts/web", "/api/v1/rollouts/{name}"),
        ("/api/v1/version", "/api/v1/version", "/api/v1/version"),
        ("/metrics", "/metrics", "/metrics"),
        ("/{page}", "/overview", "/{page}"),
    ],
)
def test_a_template_is_whole(path: str, asked: str, found: str) -> None:
    class Route:
        pass

    route = Route()
    route.path = path  # type: ignore[attr-defined]
    assert template(route, asked, PREFIX) == found
    assert template(None, asked, PREFIX) == "unmatched"
