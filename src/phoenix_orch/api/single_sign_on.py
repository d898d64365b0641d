"""Logins and bearer tokens of an identity provider, over HTTP: what is decided is in `security/oidc.py`."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from datetime import datetime

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from phoenix_orch.api.bearer import bearer
from phoenix_orch.api.cookies import give_login, login_of, take_login
from phoenix_orch.api.doors import OPEN, Authenticator, address_of
from phoenix_orch.api.leases import STATE, Credential
from phoenix_orch.api.login import count_failure, place
from phoenix_orch.kernel.errors import Invalid, Retryable, Unauthenticated
from phoenix_orch.orchestrator.oidc_spec import OidcSpec
from phoenix_orch.security.claims import ClaimGrant
from phoenix_orch.security.oidc import Oidc, Registration, issuer_of, shaped_like_one
from phoenix_orch.security.oidc_keys import Published
from phoenix_orch.security.oidc_logins import Logins
from phoenix_orch.security.rights import Principal, held_in

CALLBACK = "/login/oidc/callback"
Begun = Callable[[Request, Response, Principal], Awaitable[None]]
"""Begins a session of whoever logged in, and gives its cookie. Raises Retryable."""
Page = Callable[[Request, str, str, int], Response]
"""The page that asks who one is: of a request, with the path to show then, what went wrong, the status."""


def provider(
    spec: OidcSpec,
    now: Callable[[], datetime],
    *,
    logins: Logins | None = None,
    namespace: str | None = None,
) -> Oidc:
    """The provider of the configuration. Raises Invalid where its authority cannot be read.

    `logins`: those under way; left out: of this process. `namespace`: the only one that is served here.
    """
    try:
        published = Published(spec.issuer, spec.ca)
    except (OSError, ssl.SSLError) as error:
        raise Invalid(
            f"{spec.ca} holds no certificates: {error.strerror or 'no PEM'}", remedy="mend api.oidc.ca"
        ) from None
    agreed = Registration(
        client_id=spec.client_id,
        audience=spec.audience or spec.client_id,
        secret_file=spec.client_secret_file,
        scopes=spec.scopes,
        algorithms=spec.algorithms,
        name_claim=spec.name_claim,
        grants=tuple(
            ClaimGrant(
                one.claim, one.value, one.grants if namespace is None else held_in(one.grants, namespace)
            )
            for one in spec.grants
        ),
    )
    return Oidc(published, agreed, now, logins)


def by_provider(oidc: Oidc, *, issuer: str = "") -> Authenticator:
    """Whoever shows a token that the provider signed. `issuer`: others' signed tokens let in, too, and only
    one that says to be from here is looked at."""

    async def authenticate(request: Request) -> Principal | None:
        text = bearer(request)
        if text is None or not shaped_like_one(text) or (issuer and issuer_of(text) != issuer):
            return None
        if request.app.state.rates is not None:
            request.app.state.rates.may_try(address_of(request))  # a wrong one may cost a question elsewhere
        known = await oidc.known_by(text)
        setattr(request.state, STATE, Credential(f"oidc:{known.principal.name}", known.lasts))
        return known.principal

    return authenticate


def routes(oidc: Oidc, begun: Begun, page: Page) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/login/oidc", dependencies=[OPEN])
    async def go_to_provider(request: Request, next: str = "/") -> Response:  # noqa: A002
        after = place(next)
        try:
            address, state = await oidc.begin(_callback(request), after)
        except Retryable as error:
            return page(request, after, error.message, 503)
        answer = RedirectResponse(address, status_code=303)
        give_login(request, answer, state)
        return answer

    @router.get(CALLBACK, dependencies=[OPEN])
    async def come_back(
        request: Request, state: str = "", code: str = "", iss: str | None = None
    ) -> Response:
        try:
            principal, after = await oidc.finish(state, login_of(request), code, iss)
            answer: Response = RedirectResponse(after, status_code=303)
            await begun(request, answer, principal)
        except Unauthenticated as error:
            count_failure(request)
            answer = page(request, "/", error.message, 401)
        except Retryable as error:
            answer = page(request, "/", error.message, 503)
        take_login(request, answer)
        return answer

    return router


def _callback(request: Request) -> str:
    """Where the provider sends the browser back to: a name that this Phoenix has, or nobody had got here."""
    return str(request.url.replace(path=CALLBACK, query=""))
