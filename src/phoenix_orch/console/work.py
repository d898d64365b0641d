"""Tasks and schedules: what runs, how far it is, what it said; cancel, begin anew, run now."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from phoenix_orch.api.doors import READ, Operator, Reader
from phoenix_orch.console import render
from phoenix_orch.console.csrf import FIELD, Csrf
from phoenix_orch.console.forms import fields
from phoenix_orch.console.frame import ROOT, Done, Pages
from phoenix_orch.console.route import PageRoute
from phoenix_orch.orchestrator.operations_port import Operations
from phoenix_orch.tasks.record import State

SHOWN = 50
LINES = 500
Form = Annotated[dict[str, str], Depends(fields)]


def routes(operations: Operations, page: Pages, csrf: Csrf) -> APIRouter:
    router = APIRouter(prefix=f"{ROOT}/tasks", include_in_schema=False, route_class=PageRoute)

    @router.get("")
    async def show_tasks(
        who: Reader,
        state: State | Literal[""] = "",
        before: Annotated[str, Query(max_length=40)] = "",
        done: Done = "",
    ) -> HTMLResponse:
        found, schedules = await asyncio.gather(
            operations.tasks.page(
                state=State(state) if state else None, kind=None, before=before, limit=SHOWN
            ),
            operations.tasks.schedules(),
        )
        return page(
            who,
            "tasks.html",
            here="tasks",
            found=found,
            schedules=schedules,
            states=list(State),
            state=state,
            done=done,
        )

    @router.get("/{id}")
    async def show_task(id: str, who: Reader, done: Done = "") -> HTMLResponse:  # noqa: A002
        task, log = await asyncio.gather(operations.tasks.show(id), operations.tasks.logs(id, limit=LINES))
        return page(who, "task.html", here="tasks", task=task, log=log, done=done)

    @router.get("/{id}/now", dependencies=[READ])
    async def get_task(id: str) -> HTMLResponse:  # noqa: A002
        """The moving part of its page."""
        task, log = await asyncio.gather(operations.tasks.show(id), operations.tasks.logs(id, limit=LINES))
        return render.page("task_live.html", task=task, log=log)

    @router.post("/{id}/cancel")
    async def cancel_task(id: str, request: Request, who: Operator, form: Form) -> RedirectResponse:  # noqa: A002
        csrf.check(who, request, form.get(FIELD, ""))
        await operations.tasks.cancel(id, actor=who.name)
        return _back(f"/{quote(id, safe='')}", "cancel")

    @router.post("/{id}/retry")
    async def retry_task(id: str, request: Request, who: Operator, form: Form) -> RedirectResponse:  # noqa: A002
        csrf.check(who, request, form.get(FIELD, ""))
        await operations.tasks.retry(id, actor=who.name)
        return _back(f"/{quote(id, safe='')}", "again")

    @router.post("/schedules/{name}/pause")
    async def pause_schedule(name: str, request: Request, who: Operator, form: Form) -> RedirectResponse:
        csrf.check(who, request, form.get(FIELD, ""))
        await operations.tasks.pause(name, actor=who.name)
        return _back("", "hold")

    @router.post("/schedules/{name}/resume")
    async def resume_schedule(name: str, request: Request, who: Operator, form: Form) -> RedirectResponse:
        csrf.check(who, request, form.get(FIELD, ""))
        await operations.tasks.resume(name, actor=who.name)
        return _back("", "go-on")

    @router.post("/schedules/{name}/run")
    async def run_schedule(name: str, request: Request, who: Operator, form: Form) -> RedirectResponse:
        csrf.check(who, request, form.get(FIELD, ""))
        task = await operations.tasks.run_schedule(name, actor=who.name)
        return _back(f"/{quote(task.id, safe='')}", "run")

    return router


def _back(path: str, done: str) -> RedirectResponse:
    return RedirectResponse(f"{ROOT}/tasks{path}?done={done}", 303)
