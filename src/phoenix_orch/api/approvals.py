"""`/approvals`: what destroys waits here for a second person."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter

from phoenix_orch.api.doors import READ, Administrator, Approver, Operator, demand
from phoenix_orch.api.requests import AnswerRequest, ApprovalRequest
from phoenix_orch.orchestrator.approving import Approving
from phoenix_orch.orchestrator.identity_views import SecondPerson
from phoenix_orch.security.rights import Principal, Right
from phoenix_orch.security.two_persons import Approval


def routes(approving: Approving, others: Callable[[Principal], bool] = lambda _: True) -> APIRouter:
    """`others`: whether somebody else may approve; where that cannot be known, somebody may."""
    router = APIRouter(tags=["identity"])

    @router.get("/approvals", dependencies=[READ])
    async def list_approvals() -> list[Approval]:
        """What waits for a second person, and what came of what did; the newest last."""
        return await approving.approvals()

    @router.post("/approvals")
    async def ask_second_person(body: ApprovalRequest, who: Administrator) -> SecondPerson:
        """Ask a second person about what destroys, before it is done elsewhere than here.

        `wanted: false` where nobody else may approve; `true` when somebody has agreed to exactly this, which
        is used up with the answer. Until then 409, `needs_second_person`.
        """
        wanted = others(who.principal)
        if wanted and not body.dry_run:
            await approving.second_person(body.action, body.target, by=who.principal, reason=body.reason)
        return SecondPerson(wanted=wanted)

    @router.get("/approvals/{id}", dependencies=[READ])
    async def get_approval(id: str) -> Approval:  # noqa: A002 - the word of the address
        """One of them."""
        return await approving.approval(id)

    @router.post("/approvals/{id}/approve")
    async def approve(id: str, body: AnswerRequest, who: Approver) -> Approval:  # noqa: A002
        """Agree. Whoever asked cannot; they have 15 minutes to do it then."""
        give = approving.foreseen if body.dry_run else approving.answer
        return await give(id, by=who.principal, agrees=True, words=body.reason)

    @router.post("/approvals/{id}/refuse")
    async def refuse(id: str, body: AnswerRequest, who: Operator) -> Approval:  # noqa: A002
        """Refuse it. Whoever asked takes it back so, without the right to approve."""
        if (await approving.approval(id)).asker != who.principal.person:
            demand(who, Right.APPROVE)
        give = approving.foreseen if body.dry_run else approving.answer
        return await give(id, by=who.principal, agrees=False, words=body.reason)

    return router
