"""Backups by component, and what drills have found."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from phoenix_orch.api.doors import Reader
from phoenix_orch.console.frame import ROOT, Pages
from phoenix_orch.console.route import PageRoute
from phoenix_orch.orchestrator.recovery_look import Recovery
from phoenix_orch.recovery.drill_report import span


def routes(recovery: Recovery, page: Pages) -> APIRouter:
    router = APIRouter(prefix=f"{ROOT}/recovery", include_in_schema=False, route_class=PageRoute)

    @router.get("")
    async def show_recovery(who: Reader) -> HTMLResponse:
        return page(who, "recovery.html", here="recovery", found=await recovery.overview(), span=span)

    @router.get("/drills/{id}")
    async def show_drill(id: str, who: Reader) -> HTMLResponse:  # noqa: A002
        return page(who, "drill.html", here="recovery", report=await recovery.drill(id), span=span)

    return router
