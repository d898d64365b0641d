"""`/rollouts` and `/events`."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from phoenix_orch.api import pages
from phoenix_orch.api.doors import READ, Operator, demand
from phoenix_orch.api.pages import Cursor, Limit
from phoenix_orch.api.pictures import Pictures
from phoenix_orch.api.requests import CommandRequest, StartRequest, UndoRequest
from phoenix_orch.health_validator.observation import Verdict
from phoenix_orch.kernel.masking import Masker
from phoenix_orch.orchestrator.operations_port import Operations
from phoenix_orch.orchestrator.views import Change, RolloutView
from phoenix_orch.rollout.status import Command
from phoenix_orch.security.rights import Right


def routes(operations: Operations, masker: Masker) -> APIRouter:
    router = APIRouter(tags=["rollouts"])

    pictures = Pictures(masker.data)

    @router.get("/rollouts", dependencies=[READ], response_model=list[RolloutView])
    async def list_rollouts(request: Request, limit: Limit = 1000, cursor: Cursor = "") -> Response:
        """All rollouts with what surrounds them, by name."""
        found = await operations.views(after=pages.decode(cursor), limit=limit + 1)
        page, place = pages.behind(found, "", limit, lambda view: view.rollout.name)
        response = Response(await pictures.array(page), media_type="application/json")
        pages.link(request, response, place)
        return response

    @router.get("/rollouts/{name}", dependencies=[READ], response_model=RolloutView)
    async def get_rollout(name: str) -> Response:
        """One rollout: what is wanted, where it stands, traffic, instances, verdict, rates."""
        return Response(pictures.text(await operations.view(name)), media_type="application/json")

    @router.get("/rollouts/{name}/verdict", dependencies=[READ])
    async def get_verdict(name: str) -> Verdict | None:
        """The health validator's last answer; null before the first."""
        return (await operations.view(name)).verdict

    @router.post("/rollouts/{name}/commands", status_code=202)
    async def give_command(name: str, body: CommandRequest, who: Operator) -> Command:
        """Give the rollout a person's word; it is obeyed at the controller's next pass."""
        if body.override_freeze:
            demand(who, Right.APPROVE)
        return await operations.command(
            name,
            body.kind,
            actor=who.name,
            reason=body.reason,
            step=body.step,
            override_freeze=body.override_freeze,
        )

    @router.post("/rollouts/{name}/start")
    async def start_release(name: str, body: StartRequest, who: Operator) -> Change:
        """Release stable's template with another version, environment or command."""
        if body.override_freeze:
            demand(who, Right.APPROVE)
        return await operations.start(
            name,
            version=body.version,
            env=body.env,
            command=body.command,
            change_cause=body.change_cause,
            actor=who.name,
            dry_run=body.dry_run,
            even_if_unattainable=body.even_if_unattainable,
            override_freeze=body.override_freeze,
        )

    @router.post("/rollouts/{name}/undo")
    async def undo_release(name: str, body: UndoRequest, who: Operator) -> Change:
        """Go back to an earlier revision."""
        return await operations.undo(
            name, to_revision=body.to_revision, actor=who.name, reason=body.reason, dry_run=body.dry_run
        )

    return router
