"""`/approvals`: what destroys waits here for a second person."""

from __future__ import annotations

from fastapi import APIRouter

from phoenix_orch.api.doors import READ, Approver, Operator, demand
from phoenix_orch.api.requests import AnswerRequest
from phoenix_orch.orchestrator.identity import Doorkeeper
from phoenix_orch.security.rights import Right
from phoenix_orch.security.two_persons import Approval


def routes(identity: Doorkeeper) -> APIRouter:
    router = APIRouter(tags=["identity"])

    @router.get("/approvals", dependencies=[READ])
    async def list_approvals() -> list[Approval]:
        """What waits for a second person, and what came of what did; the newest last."""
        return identity.approvals()

    @router.get("/approvals/{id}", dependencies=[READ])
    async def get_approval(id: str) -> Approval:  # noqa: A002 - the word of the address
        """One of them."""
        return identity.approval(id)

    @router.post("/approvals/{id}/approve")
    async def approve(id: str, body: AnswerRequest, who: Approver) -> Approval:  # noqa: A002
        """Agree. Whoever asked cannot; they have 15 minutes to do it then."""
        give = identity.foreseen if body.dry_run else identity.answer
        return await give(id, by=who.principal, agrees=True, words=body.reason)

    @router.post("/approvals/{id}/refuse")
    async def refuse(id: str, body: AnswerRequest, who: Operator) -> Approval:  # noqa: A002
        """Refuse it. Whoever asked takes it back so, without the right to approve."""
        if identity.approval(id).asker != who.principal.person:
            demand(who, Right.APPROVE)
        give = identity.foreseen if body.dry_run else identity.answer
        return await give(id, by=who.principal, agrees=False, words=body.reason)

    return router
