"""`/services`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from phoenix_orch.api import pages
from phoenix_orch.api.doors import READ, Operator
from phoenix_orch.api.pages import Cursor, Limit
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.orchestrator.operations_port import Operations
from phoenix_orch.orchestrator.views import LogPage, ServiceView


def routes(operations: Operations) -> APIRouter:
    router = APIRouter(tags=["services"])

    @router.get("/services", dependencies=[READ])
    async def list_services(
        request: Request, response: Response, limit: Limit = 1000, cursor: Cursor = ""
    ) -> list[ServiceView]:
        """All services with what runs of them, by name."""
        found = sorted(await operations.services(), key=lambda service: service.name)
        page, place = pages.behind(found, pages.decode(cursor), limit, lambda service: service.name)
        pages.link(request, response, place)
        return page

    @router.get("/services/{name}", dependencies=[READ])
    async def get_service(name: str) -> ServiceView:
        """One service."""
        return await operations.service(name)

    # What a service says is its own.
    @router.get("/services/{name}/logs", response_class=JSONResponse, dependencies=[READ])
    async def read_logs(
        name: str,
        instance: str | None = None,
        lines: Annotated[int, Query(ge=0, le=10_000)] = 100,
        after: Annotated[list[str] | None, Query()] = None,
    ) -> LogPage:
        """The last `lines` lines; with `after=instance:offset` (repeated) only what is newer."""
        return await operations.logs(name, instance=instance, lines=lines, after=_offsets(after or []))

    @router.post("/services/{name}/restart", status_code=202)
    async def restart_service(
        name: str,
        who: Operator,
        dry_run: Annotated[bool, Query(alias="dryRun")] = False,
    ) -> ServiceView:
        """Replace the instances one after another, each ready before the next one leaves."""
        await operations.restart(name, actor=who.name, dry_run=dry_run)
        return await operations.service(name)

    return router


def _offsets(words: list[str]) -> dict[str, int]:
    offsets = {}
    for word in words:
        instance, _, offset = word.rpartition(":")
        if not instance or not offset.isdecimal():
            raise Invalid(f"after={word!r} is no instance:offset", remedy="give back what `offsets` said")
        offsets[instance] = int(offset)
    return offsets
