"""What buttons send: checked like any call of the API, obeyed through the same port, then the page again."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse

from phoenix_orch.api.doors import Operator
from phoenix_orch.api.requests import CommandRequest, StartRequest, UndoRequest
from phoenix_orch.console.csrf import FIELD, Csrf
from phoenix_orch.console.forms import fields
from phoenix_orch.console.frame import ROOT
from phoenix_orch.console.route import PageRoute
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.orchestrator.operations_port import Operations

Form = Annotated[dict[str, str], Depends(fields)]


def routes(operations: Operations, csrf: Csrf) -> APIRouter:
    router = APIRouter(prefix=ROOT, include_in_schema=False, route_class=PageRoute)

    @router.post("/rollouts/{name}/start")
    async def start_release(name: str, request: Request, who: Operator, form: Form) -> RedirectResponse:
        csrf.check(who, request, form.get(FIELD, ""))
        if "version" not in form:
            raise Invalid(
                "no version was given", remedy="go back and write the version that is to be released"
            )
        body = StartRequest.model_validate(
            {"version": form["version"], "changeCause": form.get("reason", "")}
        )
        await operations.start(
            name,
            version=body.version,
            env=None,
            command=None,
            change_cause=body.change_cause,
            actor=who.name,
            dry_run=False,
        )
        return _back("rollouts", name, "start")

    @router.post("/rollouts/{name}/undo")
    async def undo_release(name: str, request: Request, who: Operator, form: Form) -> RedirectResponse:
        csrf.check(who, request, form.get(FIELD, ""))
        body = UndoRequest(to_revision=_number(form.get("revision")), reason=form.get("reason", ""))
        await operations.undo(
            name, to_revision=body.to_revision, actor=who.name, reason=body.reason, dry_run=False
        )
        return _back("rollouts", name, "undo")

    @router.post("/rollouts/{name}/{kind}")
    async def give_command(
        name: str, kind: str, request: Request, who: Operator, form: Form
    ) -> RedirectResponse:
        csrf.check(who, request, form.get(FIELD, ""))
        body = CommandRequest.model_validate(
            {"kind": kind, "reason": form.get("reason", ""), "step": _number(form.get("step"))}
        )
        await operations.command(name, body.kind, actor=who.name, reason=body.reason, step=body.step)
        return _back("rollouts", name, kind)

    @router.post("/services/{name}/restart")
    async def restart_service(name: str, request: Request, who: Operator, form: Form) -> RedirectResponse:
        csrf.check(who, request, form.get(FIELD, ""))
        await operations.restart(name, actor=who.name)
        return _back("services", name, "restart")

    return router


def _number(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or len(text) > 9:
        raise Invalid(f"{text[:20]!r} is no number", remedy="go back and choose one")
    return int(text)


def _back(kind: str, name: str, done: str) -> RedirectResponse:
    """To the page that the form was on; a reload of it sends nothing again."""
    return RedirectResponse(f"{ROOT}/{kind}/{quote(name, safe='')}?done={done}", 303)
