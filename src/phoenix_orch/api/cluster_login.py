"""Logins of browsers in a cluster: with a token of it or of Phoenix, or by way of an identity provider.

Either begins a session that every replica knows.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from phoenix_orch.api.cluster_people import People
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
from phoenix_orch.kernel.errors import Retryable, Unauthenticated
from phoenix_orch.orchestrator.cluster.sessions import KubeSession, SharedSessions, expiry
from phoenix_orch.security.acting import Caller, current
from phoenix_orch.security.kube_review import User
from phoenix_orch.security.oidc import issuer_of
from phoenix_orch.security.recorder import Recorder
from phoenix_orch.security.rights import Principal
from phoenix_orch.security.sessions import Session
from phoenix_orch.security.tokens import PREFIX

LABEL = "Token of the cluster, or of Phoenix"
HINT = (
    "<code>phoenix token create NAME</code> or "
    "<code>kubectl create token NAME --audience phoenix-orch.io</code> makes one."
)
_REMEDY = "kubectl create token SERVICE-ACCOUNT makes one"


def by_cookie(sessions: SharedSessions, people: People) -> Authenticator:
    """Whoever has the cookie of a session, with what they may do now.

    Raises Forbidden for a change that no page of ours asks for, Retryable while the store is away.
    """

    async def authenticate(request: Request) -> Principal | None:
        found = await _found(request, sessions)
        principal = None if found is None else await people.of(found.user)
        if found is None or principal is None:
            return None
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


class ClusterLogin:
    """What begins and ends sessions, and the page that asks for what begins one."""

    def __init__(
        self,
        sessions: SharedSessions,
        people: People,
        acts: Recorder,
        *,
        ended: Callable[[str], None],
        issuer: str = "",
    ) -> None:
        """`ended` is told of each credential that lets in no more. `issuer`: of the identity provider that
        can be asked; empty: there is none."""
        self._sessions = sessions
        self._people = people
        self._acts = acts
        self._ended = ended
        self._issuer = issuer

    def page(self, request: Request, after: str, fault: str = "", status: int = 200) -> Response:
        return page(
            request, after=after, oidc=bool(self._issuer), fault=fault, status=status, label=LABEL, hint=HINT
        )

    async def begin_by_token(self, request: Request, response: Response, token: str) -> None:
        """Raises Unauthenticated, Retryable, TooMany."""
        if token.startswith(PREFIX):
            await self._begin_by_own(request, response, token)
            return
        if request.app.state.rates is not None:
            request.app.state.rates.may_try(address_of(request))
        if self._issuer and issuer_of(token) == self._issuer:  # nobody is two persons by two ways in
            raise Unauthenticated("this token is the identity provider's", remedy="log in there")
        user = await self._people.reviews.whose(token)
        if user is None:
            count_failure(request)
            raise Unauthenticated("the API server of the cluster does not know this token", remedy=_REMEDY)
        await self._begin(request, response, user, await self._people.reviews.of(user), expiry(token))

    async def _begin_by_own(self, request: Request, response: Response, text: str) -> None:
        """With a token of Phoenix: the session ends with it."""
        token = await self._people.tokens.known_by(text)
        if token is None:
            count_failure(request)
            raise Unauthenticated("this token lets nobody in", remedy="`phoenix token create` makes one")
        principal = self._people.tokens.principal(token)
        await self._begin(request, response, self._people.user_by(token), principal, token.expires)

    async def begin_by_provider(self, request: Request, response: Response, principal: Principal) -> None:
        """Raises Retryable."""
        await self._begin(request, response, self._people.user_of(principal), principal, None)

    async def _begin(
        self,
        request: Request,
        response: Response,
        user: User,
        principal: Principal,
        ends: datetime | None,
    ) -> None:
        old = await _found(request, self._sessions)
        if old is not None:
            await self._end(old)  # no name outlives a login
        name, session = await self._sessions.begin(user, ends)
        current.set(Caller(principal, request_id(), address_of(request)))
        self._acts.note("session.begin", f"session/{session.key[:12]}", actor=principal.name)
        give_cookie(request, response, name)

    async def _end(self, session: KubeSession) -> None:
        await self._sessions.end(session)
        self._ended(f"session:{session.key}")

    async def end(self, request: Request, response: Response) -> None:
        """Its streams end here at once, and at other replicas within seconds. Raises Retryable."""
        session = await _found(request, self._sessions)
        if session is not None:
            await self._end(session)
            actor = str(session.user["username"])
            self._acts.note("session.end", f"session/{session.key[:12]}", actor=actor)
        take_cookie(request, response)


def routes(door: ClusterLogin) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/login", dependencies=[OPEN])
    async def login_page(request: Request, next: str = "/") -> Response:  # noqa: A002
        return door.page(request, place(next))

    @router.post("/login", dependencies=[OPEN])
    async def log_in(request: Request) -> Response:
        expect_own_page(request)
        form = await form_of(request)
        after = place(form.get("next", ""))
        answer = RedirectResponse(after, status_code=303)
        try:
            await door.begin_by_token(request, answer, form.get("token", "").strip())
        except Unauthenticated as error:
            return door.page(request, after, error.message, 401)
        except Retryable as error:
            return door.page(request, after, error.message, 503)
        return answer

    @router.post("/logout", dependencies=[OPEN])
    async def log_out(request: Request) -> Response:
        expect_own_page(request)
        answer = RedirectResponse("/login", status_code=303)
        await door.end(request, answer)
        return answer

    return router
