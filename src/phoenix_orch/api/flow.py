"""`/freezes`, `/groups`, `/reports`: when releases may begin, and how they came out."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query

from phoenix_orch.api.doors import READ, Approver, Operator
from phoenix_orch.api.requests import EndFreezeRequest, FreezeRequest, OverrideRequest
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.kernel.units import parse_duration
from phoenix_orch.orchestrator.flow_views import FreezeView, GroupView, OverrideView
from phoenix_orch.orchestrator.operations_port import Operations
from phoenix_orch.rollout.dora import DoraReport

Since = Annotated[str, Query(max_length=60, description="How far back: 7d, 30d, 90d.")]


def routes(operations: Operations) -> APIRouter:
    router = APIRouter(tags=["flow"])

    @router.get("/freezes", dependencies=[READ])
    async def list_freezes() -> list[FreezeView]:
        """Freezes that are in force or to come."""
        return await operations.flow.freezes()

    @router.post("/freezes", status_code=201)
    async def start_freeze(body: FreezeRequest, who: Operator) -> FreezeView:
        """Begin a freeze now: no release that it is about begins before its end."""
        return await operations.flow.start_freeze(
            body.name,
            until=body.until,
            lasting=body.duration,
            rollouts=body.rollouts,
            reason=body.reason,
            under_way=body.releases_under_way,
            actor=who.name,
            dry_run=body.dry_run,
        )

    @router.post("/freezes/{name}/end")
    async def end_freeze(name: str, body: EndFreezeRequest, who: Approver) -> FreezeView:
        """End a freeze that a person began."""
        return await operations.flow.end_freeze(
            name, reason=body.reason, actor=who.name, dry_run=body.dry_run
        )

    @router.post("/rollouts/{name}/freeze-override")
    async def override_freeze(name: str, body: OverrideRequest, who: Approver) -> OverrideView:
        """Let the release that waits begin in spite of every freeze."""
        return await operations.flow.override_waiting(
            name, reason=body.reason, actor=who.name, dry_run=body.dry_run
        )

    @router.get("/groups", dependencies=[READ])
    async def list_groups() -> list[GroupView]:
        """Groups of rollouts, and where their members stand."""
        return await operations.flow.groups()

    @router.get("/reports/dora", dependencies=[READ])
    async def get_dora(since: Since = "30d", rollout: str | None = None) -> DoraReport:
        """Deployment frequency, lead time, change failure rate and time to restore."""
        return await operations.flow.dora(_window(since), rollout)

    return router


def _window(text: str) -> timedelta:
    try:
        found = parse_duration(text)
    except ValueError as error:
        raise Invalid(f"since: {error}", remedy="for example since=30d") from None
    if not found:
        raise Invalid("since: 0s is no time to report on", remedy="for example since=30d")
    return found
