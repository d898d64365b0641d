"""Pages that only show: each reads what it needs through the operations port and renders it."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse

from phoenix_orch.api.doors import OPEN, READ, Reader
from phoenix_orch.api.streams import Stream
from phoenix_orch.console import live, render
from phoenix_orch.console.comparing import compared
from phoenix_orch.console.frame import ROOT, Done, Pages
from phoenix_orch.console.judging import Judging
from phoenix_orch.console.live import Parts
from phoenix_orch.console.route import PageRoute
from phoenix_orch.console.track import all_acts
from phoenix_orch.orchestrator.operations_port import Operations

HISTORY = 200
LINES = 200
Release = Annotated[int | None, Query(ge=0)]
LastId = Annotated[str, Header(alias="Last-Event-ID", max_length=100)]


def routes(operations: Operations, judging: Judging, parts: Parts, page: Pages) -> APIRouter:
    router = APIRouter(prefix=ROOT, include_in_schema=False, route_class=PageRoute)

    @router.get("")
    async def show_overview(who: Reader) -> HTMLResponse:
        part = await live.overview_part(operations)
        return page(who, "overview.html", here="overview", part=part)

    @router.get("/stream", dependencies=[READ])
    async def stream_overview(last_event_id: LastId = "") -> Stream:
        return Stream(parts.overview(last_event_id))

    @router.get("/rollouts/{name}")
    async def show_rollout(name: str, who: Reader, done: Done = "") -> HTMLResponse:
        (part, view), revisions = await asyncio.gather(
            live.rollout_part(operations, judging, name), operations.revisions(name)
        )
        return page(
            who,
            "rollout.html",
            here="",
            part=part,
            view=view,
            acts=all_acts(),
            revisions=revisions,
            done=done,
        )

    @router.get("/rollouts/{name}/stream", dependencies=[READ])
    async def stream_rollout(name: str, last_event_id: LastId = "") -> Stream:
        return Stream(await parts.rollout(name, last_event_id))

    @router.get("/rollouts/{name}/charts", dependencies=[READ])
    async def get_charts(name: str, release: Release = None) -> JSONResponse:
        view = await operations.view(name)
        found = await live.judgement_of(judging, view, release or None)
        return JSONResponse({"shares": found.charts, "evidence": found.evidence}, headers=render.HEADERS)

    @router.get("/rollouts/{name}/history")
    async def show_history(name: str, who: Reader, a: Release = None, b: Release = None) -> HTMLResponse:
        view, ended = await asyncio.gather(operations.view(name), operations.history(name, HISTORY))
        both = None
        if a is not None and b is not None:
            both = compared(ended, a, b)
        return page(who, "history.html", here="", view=view, ended=ended, both=both, a=a, b=b)

    @router.get("/rollouts/{name}/releases/{number}")
    async def show_release(name: str, number: int, who: Reader) -> HTMLResponse:
        view = await operations.view(name)
        found = await judging.of(view, number)
        return page(who, "release.html", here="", view=view, number=number, why=found.explanation)

    @router.get("/services")
    async def show_services(who: Reader) -> HTMLResponse:
        return page(who, "services.html", here="services", services=await operations.services())

    @router.get("/services/{name}")
    async def show_service(name: str, who: Reader, done: Done = "") -> HTMLResponse:
        service, log = await asyncio.gather(
            operations.service(name), operations.logs(name, instance=None, lines=LINES, after={})
        )
        return page(who, "service.html", here="services", service=service, log=log, done=done)

    @router.get("/services/{name}/log", dependencies=[READ])
    async def get_log(
        name: str, after: Annotated[list[str] | None, Query(max_length=100)] = None
    ) -> HTMLResponse:
        """What is newer than `after=instance:offset`."""
        pairs = [word.rpartition(":") for word in after or []]
        offsets = {instance: int(offset) for instance, _, offset in pairs if offset.isdecimal()}
        log = await operations.logs(name, instance=None, lines=LINES, after=offsets)
        return render.page("log_lines.html", log=log, name=name)

    @router.get("/settings")
    async def show_settings(who: Reader) -> HTMLResponse:
        return page(who, "settings.html", here="settings", info=await operations.info())

    return router


def front() -> APIRouter:
    """The bare address leads to the console."""
    router = APIRouter(include_in_schema=False)

    @router.get("/", dependencies=[OPEN])
    async def show_front() -> RedirectResponse:
        return RedirectResponse(ROOT, 303)

    return router
