"""Logins of browsers in a cluster: with a token of the cluster, for a session that every replica knows."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from phoenix_orch.api.cookies import (
    cookie_name,
    expect_csrf,
    expect_own_page,
    form_of,
    give_cookie,
    take_cookie,
)
from phoenix_orch.api.doors import OPEN, SAFE, Authenticator, address_of
from phoenix_orch.api.leases import STATE, Credential
from phoenix_orch.api.login import count_failure, place
from phoenix_orch.api.login_page import page
from phoenix_orch.api.request_ids import request_id
from phoenix_orch.kernel.errors import PhoenixError, Retryable, Unauthenticated
from phoenix_orch.orchestrator.cluster.sessions import KubeSession, SharedSessions
from phoenix_orch.security.acting import Caller, current
from phoenix_orch.security.kube_review import KubeReviews, User
from phoenix_orch.security.recorder import Recorder
from phoenix_orch.security.rights import Principal
from phoenix_orch.security.sessions import Session

LABEL = "Token of the cluster"
HINT = "<code>kubectl create token NAME --audience phoenix-orch.io</code> makes one."
_REMEDY = "kubectl create token SERVICE-ACCOUNT makes one"


def by_cookie(sessions: SharedSessions, reviews: KubeReviews) -> Authenticator:
    """Whoever has the cookie of a session, with what the cluster's rules give them now.

    Raises Forbidden for a change that no page of ours asks for, Retryable while the store is away.
    """

    async def authenticate(request: Request) -> Principal | None:
        found = await _found(request, sessions)
        if found is None:
            return None
        principal = await reviews.of(found.user)
        session = Session(found.key, principal, "", found.csrf, found.begun, found.begun, found.until)
        if request.method not in SAFE:
            expect_own_page(request)
            await expect_csrf(request, session)
        lasts = (found.until - sessions.now()).total_seconds()
        setattr(request.state, STATE, Credential(f"session:{found.key}", lasts))
        request.state.session = session
        return principal

    return authenticate


async def _found(request: Request, sessions: SharedSessions) -> KubeSession | None:
    name = request.cookies.get(cookie_name(request))
    return await sessions.find(name) if name else None


def routes(sessions: SharedSessions, reviews: KubeReviews, acts: Recorder) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/login", dependencies=[OPEN])
    async def login_page(request: Request, next: str = "/") -> HTMLResponse:  # noqa: A002
        return shown(request, place(next))

    @router.post("/login", dependencies=[OPEN])
    async def log_in(request: Request) -> Response:
        expect_own_page(request)
        form = await form_of(request)
        after, token = place(form.get("next", "")), form.get("token", "").strip()
        try:
            if request.app.state.rates is not None:
                request.app.state.rates.may_try(address_of(request))
            user = await _known(request, reviews, token)
            principal = await reviews.of(user)
            old = await _found(request, sessions)
            if old is not None:
                await sessions.end(old)  # no name outlives a login
            name, session = await sessions.begin(user, token)
        except Unauthenticated as error:
            return shown(request, after, error, 401)
        except Retryable as error:
            return shown(request, after, error, 503)
        current.set(Caller(principal, request_id(), address_of(request)))
        acts.note("session.begin", f"session/{session.key[:12]}", actor=principal.name)
        answer = RedirectResponse(after, status_code=303)
        give_cookie(request, answer, name)
        return answer

    @router.post("/logout", dependencies=[OPEN])
    async def log_out(request: Request) -> Response:
        expect_own_page(request)
        answer = RedirectResponse("/login", status_code=303)
        session = await _found(request, sessions)
        if session is not None:
            await sessions.end(session)
            acts.note("session.end", f"session/{session.key[:12]}", actor=str(session.user["username"]))
        take_cookie(request, answer)
        return answer

    return router


async def _known(request: Request, reviews: KubeReviews, token: str) -> User:
    """Raises Unauthenticated, Retryable, TooMany."""
    user = await reviews.whose(token)
    if user is None:
        count_failure(request)
        raise Unauthenticated("the API server of the cluster does not know this token", remedy=_REMEDY)
    return user


def shown(request: Request, after: str, fault: PhoenixError | None = None, status: int = 200) -> HTMLResponse:
    said = "" if fault is None else fault.message
    return page(request, after=after, oidc=False, fault=said, status=status, label=LABEL, hint=HINT)
