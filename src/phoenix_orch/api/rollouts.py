"""`/rollouts` and `/apply`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import TypeAdapter

from phoenix_orch.api.doors import READ, Administrator, Operator, demand
from phoenix_orch.api.requests import ApplyRequest, CommandRequest, StartRequest, UndoRequest
from phoenix_orch.health_validator.observation import Observation, Verdict
from phoenix_orch.kernel.masking import told
from phoenix_orch.orchestrator.operations_port import Operations
from phoenix_orch.orchestrator.views import Change, RolloutView
from phoenix_orch.rollout.status import Command, Event, Release, Revision
from phoenix_orch.security.rights import Right

Limit = Annotated[int, Query(ge=1, le=20_000)]

_OBSERVATIONS = TypeAdapter(list[Observation])


def _told(observation: Observation) -> Observation:
    """Notes are words of whoever gave the numbers."""
    if not observation.notes:
        return observation
    return observation.model_copy(update={"notes": tuple(map(told, observation.notes))})


def routes(operations: Operations) -> APIRouter:
    router = APIRouter(tags=["rollouts"])

    @router.get("/rollouts", dependencies=[READ])
    async def list_rollouts() -> list[RolloutView]:
        """All rollouts with what surrounds them."""
        return await operations.views()

    @router.get("/rollouts/{name}", dependencies=[READ])
    async def get_rollout(name: str) -> RolloutView:
        """One rollout: what is wanted, where it stands, traffic, instances, verdict, rates."""
        return await operations.view(name)

    @router.get("/rollouts/{name}/verdict", dependencies=[READ])
    async def get_verdict(name: str) -> Verdict | None:
        """The health validator's last answer; null before the first."""
        return (await operations.view(name)).verdict

    @router.get("/rollouts/{name}/events", dependencies=[READ])
    async def list_events(name: str, limit: Limit = 100) -> list[Event]:
        """What happened: the newest `limit` events, oldest first."""
        return await operations.events(name, limit)

    @router.get("/rollouts/{name}/history", dependencies=[READ])
    async def list_history(name: str, limit: Limit = 50) -> list[Release]:
        """Ended releases, newest first."""
        return await operations.history(name, limit)

    @router.get("/rollouts/{name}/revisions", dependencies=[READ])
    async def list_revisions(name: str) -> list[Revision]:
        """All kept revisions by number."""
        return await operations.revisions(name)

    @router.get("/rollouts/{name}/observations", response_model=list[Observation], dependencies=[READ])
    async def list_observations(name: str, since: datetime | None = None, limit: Limit = 1000) -> Response:
        """What both variants did, interval by interval, oldest first."""
        found = [_told(one) for one in await operations.observations(name, since, limit)]
        # Thousands of numbers with nothing to mask: written as they are, a sixth of the time.
        return Response(_OBSERVATIONS.dump_json(found, by_alias=True), media_type="application/json")

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

    @router.post("/apply")
    async def apply_configuration(body: ApplyRequest, who: Administrator) -> list[Change]:
        """Make a whole phoenix.yaml what is wanted, or none of it."""
        return await operations.apply(
            body.config,
            actor=who.name,
            dry_run=body.dry_run,
            even_if_unattainable=body.even_if_unattainable,
        )

    return router
