"""Search in the audit log: who did what, when, to what, and what came of it."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse

from phoenix_orch.api.doors import Reader
from phoenix_orch.console.frame import ROOT, Pages
from phoenix_orch.console.route import PageRoute
from phoenix_orch.orchestrator import audit_views
from phoenix_orch.security.audit_log import AuditRecords
from phoenix_orch.security.audit_query import Query as Wanted

SHOWN = 100
Pattern = Annotated[str, Query(max_length=200)]


def routes(log: AuditRecords, page: Pages) -> APIRouter:
    router = APIRouter(prefix=ROOT, include_in_schema=False, route_class=PageRoute)

    @router.get("/audit")
    async def show_audit(
        who: Reader,
        actor: Pattern = "",
        action: Pattern = "",
        target: Pattern = "",
        before: Annotated[int | None, Query(ge=1)] = None,
    ) -> HTMLResponse:
        """The newest records first; patterns as on the command line."""
        wanted = Wanted(actor.strip(), action.strip(), target.strip()).wants
        found = await asyncio.to_thread(log.newest, SHOWN, wanted, before=before)
        return page(
            who,
            "audit.html",
            here="audit",
            records=[audit_views.viewed(one) for one in reversed(found)],
            older=found[0].seq if len(found) == SHOWN and found[0].seq > 1 else None,
            sought={"actor": actor, "action": action, "target": target},
        )

    return router
