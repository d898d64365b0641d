"""Getting in: who asks, sessions for browsers, and codes that begin one."""

from __future__ import annotations

import re

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse

from phoenix_orch.api.cookies import (
    expect_own_page,
    form_of,
    give_cookie,
    led_from_elsewhere,
    session_of,
    take_cookie,
)
from phoenix_orch.api.doors import OPEN, Reader, address_of
from phoenix_orch.api.leases import STATE, Credential
from phoenix_orch.api.login_page import page
from phoenix_orch.api.request_ids import request_id
from phoenix_orch.api.requests import LoginRequest
from phoenix_orch.kernel.errors import Forbidden, NotFound, Unauthenticated
from phoenix_orch.orchestrator.identity import Doorkeeper
from phoenix_orch.orchestrator.identity_views import LoginCode, SessionView
from phoenix_orch.security.acting import Caller, current
from phoenix_orch.security.rights import Kind, Principal
from phoenix_orch.security.sessions import Session

_PATH = re.compile(r"/[A-Za-z0-9][A-Za-z0-9._~/-]{0,300}")
"""A place in this console: no other host, no query."""
_ELSEWHERE = (
    "a page from elsewhere has led here with a login link: open one yourself, as `phoenix console` prints it"
)
_STALE = "this login link was used already, or is older than a minute: `phoenix console` makes a new one"


def api_routes(identity: Doorkeeper) -> APIRouter:
    router = APIRouter(tags=["identity"])

    @router.get("/session", response_model=SessionView)
    async def get_session(request: Request, _: Reader) -> SessionView:
        """The session of this browser, with what its forms carry."""
        session: Session | None = getattr(request.state, "session", None)
        if session is None:
            raise NotFound("this is no browser with a session", remedy="log in at /login")
        return shown(session)

    # Codes and what forms bring are told once and have to arrive: no part of them is masked.
    @router.post("/login-codes", status_code=201, response_model=LoginCode, response_class=JSONResponse)
    async def create_login_code(request: Request, response: Response, who: Reader) -> LoginCode:
        """A code that lets a browser in as whoever asks, once and within a minute.

        The session ends with the token that asks for it.
        """
        response.headers["cache-control"] = "no-store"
        if who.principal.kind is Kind.OIDC:
            raise Forbidden(
                "a token of an identity provider is worth minutes, and a session hours",
                remedy="log in at /login/oidc",
            )
        return LoginCode(code=identity.sessions.code(who.principal, credential=_begun_with(request)))

    @router.post("/session", status_code=201, response_model=SessionView, dependencies=[OPEN])
    async def begin_session(request: Request, response: Response, body: LoginRequest) -> SessionView:
        """Log in with a token: the answer sets the session's cookie."""
        response.headers["cache-control"] = "no-store"
        if led_from_elsewhere(request):
            raise Forbidden("a page from elsewhere asks for a login", remedy="log in at /login")
        session = await _by_token(identity, request, response, body.token)
        return shown(session)

    @router.post("/session/end", status_code=204)
    async def end_session(request: Request, response: Response, _: Reader) -> None:
        """Log out: the session of this browser ends, with all its streams."""
        session: Session | None = getattr(request.state, "session", None)
        if session is not None:
            identity.log_out(session)
            take_cookie(request, response)

    return router


def page_routes(identity: Doorkeeper, *, oidc: bool) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/login", dependencies=[OPEN])
    async def login_page(request: Request, next: str = "/") -> HTMLResponse:  # noqa: A002
        return page(request, after=place(next), oidc=oidc)

    @router.post("/login", dependencies=[OPEN])
    async def log_in(request: Request) -> Response:
        expect_own_page(request)
        form = await form_of(request)
        after = place(form.get("next", ""))
        answer = RedirectResponse(after, status_code=303)
        try:
            await _by_token(identity, request, answer, form.get("token", ""))
        except Unauthenticated as error:
            return page(request, after=after, oidc=oidc, fault=error.message, status=401)
        return answer

    @router.get("/login/code", dependencies=[OPEN])
    async def log_in_by_code(request: Request, code: str, next: str = "/") -> Response:  # noqa: A002
        if led_from_elsewhere(request):  # whose code that is only they know: it would be their session
            return page(request, after="/", oidc=oidc, fault=_ELSEWHERE, status=403)
        invited = identity.sessions.redeem(code)
        if invited is None or not identity.stands(invited.credential):
            count_failure(request)
            return page(request, after=place(next), oidc=oidc, fault=_STALE, status=401)
        answer = RedirectResponse(place(next), status_code=303)
        begin(identity, request, answer, invited.principal, credential=invited.credential)
        return answer

    @router.post("/logout", dependencies=[OPEN])
    async def log_out(request: Request) -> Response:
        expect_own_page(request)
        answer = RedirectResponse("/login", status_code=303)
        session = session_of(request, identity)
        if session is not None:
            current.set(Caller(session.principal, request_id(), address_of(request)))
            identity.log_out(session)
        take_cookie(request, answer)
        return answer

    return router


def begin(
    identity: Doorkeeper,
    request: Request,
    response: Response,
    principal: Principal,
    *,
    credential: str = "",
) -> Session:
    """A new session in place of the one that this browser has: no name outlives a login."""
    current.set(Caller(principal, request_id(), address_of(request)))  # no door has told who it is
    old = session_of(request, identity)
    if old is not None:
        identity.log_out(old)
    name, session = identity.log_in(principal, credential=credential)
    give_cookie(request, response, name)
    return session


async def _by_token(identity: Doorkeeper, request: Request, response: Response, text: str) -> Session:
    token = await identity.tokens.known_by(text.strip())
    if token is None:
        count_failure(request)
        raise Unauthenticated("this token lets nobody in", remedy="`phoenix token create` makes one")
    return begin(
        identity, request, response, identity.tokens.principal(token), credential=f"token:{token.id}"
    )


def _begun_with(request: Request) -> str:
    """The token that the request is let in by, itself or through a session; empty where there is none."""
    session: Session | None = getattr(request.state, "session", None)
    if session is not None:
        return session.credential
    shown: Credential | None = getattr(request.state, STATE, None)
    return "" if shown is None else shown.key


def count_failure(request: Request) -> None:
    """Somebody there was let in nowhere. Raises TooMany."""
    if request.app.state.rates is not None:
        request.app.state.rates.failed(address_of(request))


def place(text: str) -> str:
    """A path of this console; `/` for whatever else."""
    return text if _PATH.fullmatch(text) and "//" not in text and ".." not in text else "/"


def shown(session: Session) -> SessionView:
    return SessionView(csrf=session.csrf, begun=session.begun, until=session.until)
