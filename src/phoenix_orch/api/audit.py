"""`/audit`: what was done by whom."""

from __future__ import annotations

import asyncio
from datetime import datetime
from itertools import islice
from typing import Annotated

from fastapi import APIRouter, Query

from phoenix_orch.api.doors import READ
from phoenix_orch.kernel.errors import Terminal
from phoenix_orch.orchestrator import audit_views
from phoenix_orch.orchestrator.audit_views import AuditHead, AuditPage, AuditVerified
from phoenix_orch.security.audit_log import AuditRecords
from phoenix_orch.security.audit_query import Query as Wanted

Pattern = Annotated[str, Query(max_length=200, description="A pattern: `rollout.*`.")]


def routes(log: AuditRecords) -> APIRouter:
    router = APIRouter(tags=["audit"])
    walking = asyncio.Lock()  # one walk over the whole log at a time, whoever asks how often

    @router.get("/audit", dependencies=[READ])
    async def list_audit(  # noqa: PLR0917 - one parameter for each filter
        actor: Pattern = "",
        action: Pattern = "",
        target: Pattern = "",
        since: datetime | None = None,
        until: datetime | None = None,
        before: Annotated[int | None, Query(ge=1)] = None,
        after: Annotated[int | None, Query(ge=0)] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> AuditPage:
        """The newest records that are wanted, oldest first; with `before` those with a lower number, and with
        `after` the oldest ones with a higher number."""
        wanted = Wanted(actor, action, target, since, until).wants
        if after is not None:
            oldest = await asyncio.to_thread(lambda: list(islice(filter(wanted, log.after(after)), limit)))
            return AuditPage(records=tuple(map(audit_views.viewed, oldest)))
        found = await asyncio.to_thread(log.newest, limit, wanted, before=before)
        more = found[0].seq if len(found) == limit and found[0].seq > 1 else None
        return AuditPage(records=tuple(map(audit_views.viewed, found)), before=more)

    @router.get("/audit/head", dependencies=[READ])
    async def read_audit_head() -> AuditHead:
        """The end of the log, to be noted elsewhere."""
        last = await asyncio.to_thread(log.last)
        return AuditHead(seq=last.seq, hash=last.hash)

    @router.get("/audit/verification", dependencies=[READ])
    async def verify_audit(
        head: Annotated[str, Query(max_length=100, description="`SEQ:HASH` that has to be in it.")] = "",
    ) -> AuditVerified:
        """Check every record against the one before it. `head` was noted elsewhere earlier."""
        noted = audit_views.noted(head) if head else None
        async with walking:
            try:
                return audit_views.verified(await asyncio.to_thread(log.verify, noted))
            except OSError as error:
                raise Terminal(
                    f"the audit log cannot be read: {error.strerror or type(error).__name__}",
                    remedy="look at the directory `audit` of the data directory, and at its rights",
                ) from error

    return router
