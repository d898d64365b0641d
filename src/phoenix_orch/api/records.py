"""What happened and was seen: `/events`, and of one rollout its events, history, revisions, observations."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response
from pydantic import TypeAdapter

from phoenix_orch.api import pages
from phoenix_orch.api.doors import READ
from phoenix_orch.api.pages import Cursor, Limit
from phoenix_orch.health_validator.observation import Observation
from phoenix_orch.kernel.masking import told
from phoenix_orch.orchestrator.operations_port import Operations
from phoenix_orch.orchestrator.views import RolloutEvent
from phoenix_orch.rollout.status import Event, Release, Revision

ALL = pages.MOST
"""What is looked through for the page behind a cursor: as much as is kept."""
ALL_EVENTS = 2000
"""The same for events of all rollouts: of each so many are read."""

_OBSERVATIONS = TypeAdapter(list[Observation])


def _told(observation: Observation) -> Observation:
    """Notes are words of whoever gave the numbers."""
    if not observation.notes:
        return observation
    return observation.model_copy(update={"notes": tuple(map(told, observation.notes))})


def aware(moment: datetime | None) -> datetime | None:
    """Without a zone it is UTC."""
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def routes(operations: Operations) -> APIRouter:
    router = APIRouter(tags=["rollouts"])

    @router.get("/events", dependencies=[READ])
    async def list_all_events(
        request: Request, response: Response, limit: Limit = 100, cursor: Cursor = ""
    ) -> list[RolloutEvent]:
        """What happened to all rollouts: the newest `limit` events, oldest first."""
        place = pages.decode(cursor)
        found = await operations.all_events(ALL_EVENTS if place else limit + 1)
        page, before = pages.older(found, place, limit, lambda event: event.at)
        pages.link(request, response, before)
        return page

    @router.get("/rollouts/{name}/events", dependencies=[READ])
    async def list_events(
        name: str, request: Request, response: Response, limit: Limit = 100, cursor: Cursor = ""
    ) -> list[Event]:
        """What happened: the newest `limit` events, oldest first."""
        place = pages.decode(cursor)
        found = await operations.events(name, ALL if place else limit + 1)
        page, before = pages.older(found, place, limit, lambda event: event.at)
        pages.link(request, response, before)
        return page

    @router.get("/rollouts/{name}/history", dependencies=[READ])
    async def list_history(
        name: str, request: Request, response: Response, limit: Limit = 50, cursor: Cursor = ""
    ) -> list[Release]:
        """Ended releases, newest first."""
        before = pages.number(cursor)
        found = await operations.history(name, limit + 1 if before is None else ALL)
        rest = [release for release in found if before is None or release.number < before]
        pages.link(request, response, str(rest[limit - 1].number) if len(rest) > limit else "")
        return rest[:limit]

    @router.get("/rollouts/{name}/revisions", dependencies=[READ])
    async def list_revisions(
        name: str, request: Request, response: Response, limit: Limit = 1000, cursor: Cursor = ""
    ) -> list[Revision]:
        """All kept revisions by number."""
        after = pages.number(cursor) or 0
        rest = [one for one in await operations.revisions(name) if one.number > after]
        pages.link(request, response, str(rest[limit - 1].number) if len(rest) > limit else "")
        return rest[:limit]

    @router.get("/rollouts/{name}/observations", response_model=list[Observation], dependencies=[READ])
    async def list_observations(  # noqa: PLR0917 - given by name
        name: str,
        request: Request,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: Limit = 1000,
        cursor: Cursor = "",
    ) -> Response:
        """What both variants did, interval by interval, oldest first: the newest `limit` of the range."""
        place = pages.decode(cursor)
        begin, end = aware(since), aware(until)
        whole = bool(place) or end is not None
        found = await operations.observations(name, begin, ALL if whole else limit + 1)
        found = [one for one in found if end is None or one.t1 <= end]
        page, before = pages.older(found, place, limit, lambda one: one.t1)
        # Thousands of numbers with nothing to mask: written as they are, a sixth of the time.
        body = _OBSERVATIONS.dump_json([_told(one) for one in page], by_alias=True)
        answer = Response(body, media_type="application/json")
        pages.link(request, answer, before)
        return answer

    return router
