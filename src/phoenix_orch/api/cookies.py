"""Sessions of browsers: the cookie that names one, and what a page from elsewhere cannot do with it.

Whatever changes something by a cookie has to come from a page of ours, which the browser tells (`Origin`,
`Sec-Fetch-Site`), and has to bring what only such a page knows: the session's own token, in `X-CSRF-Token` or
the form's field `csrf`.
"""

from __future__ import annotations

import hmac
from urllib.parse import parse_qsl, urlsplit

from fastapi import Request, Response

from phoenix_orch.api.doors import SAFE, Authenticator
from phoenix_orch.api.leases import STATE, Credential
from phoenix_orch.kernel.errors import Forbidden
from phoenix_orch.orchestrator.identity import Doorkeeper
from phoenix_orch.security.rights import Principal
from phoenix_orch.security.sessions import Session

CSRF = "x-csrf-token"
FIELD = "csrf"
LOGIN_SECONDS = 600
"""That somebody may take at an identity provider."""
FORM = "application/x-www-form-urlencoded"
_REMEDY = "load the page again and do it from there"


def by_session(identity: Doorkeeper) -> Authenticator:
    """Whoever has the cookie of a session that lasts.

    Raises Forbidden for a change that no page of ours asks for.
    """

    async def authenticate(request: Request) -> Principal | None:
        session = session_of(request, identity)
        if session is None:
            return None
        if request.method not in SAFE:
            expect_own_page(request)
            await expect_csrf(request, session)
        lasts = (session.until - identity.now()).total_seconds()
        setattr(request.state, STATE, Credential(f"session:{session.key}", lasts))
        request.state.session = session
        return session.principal

    return authenticate


def session_of(request: Request, identity: Doorkeeper) -> Session | None:
    """The session that the cookie names, used now; None where there is none, or it has ended."""
    name = request.cookies.get(cookie_name(request))
    return identity.sessions.find(name) if name else None


def cookie_name(request: Request) -> str:
    """Cookies know no ports: two Phoenix on one machine have to have names of their own."""
    if request.url.scheme == "https":
        return "__Host-phoenix"
    server = request.scope.get("server")
    return f"phoenix-{server[1] if server else 0}"


def give_cookie(request: Request, response: Response, name: str) -> None:
    """The session's name, for this browser alone. It is gone when the browser closes."""
    response.set_cookie(
        cookie_name(request), name, path="/", secure=_secure(request), httponly=True, samesite="lax"
    )


def take_cookie(request: Request, response: Response) -> None:
    response.delete_cookie(
        cookie_name(request), path="/", secure=_secure(request), httponly=True, samesite="lax"
    )


def give_login(request: Request, response: Response, state: str) -> None:
    """What proves later that this browser began the login at the provider."""
    response.set_cookie(
        _login_name(request),
        state,
        max_age=LOGIN_SECONDS,
        path="/",
        secure=_secure(request),
        httponly=True,
        samesite="lax",
    )


def login_of(request: Request) -> str:
    return request.cookies.get(_login_name(request), "")


def take_login(request: Request, response: Response) -> None:
    response.delete_cookie(
        _login_name(request), path="/", secure=_secure(request), httponly=True, samesite="lax"
    )


def _login_name(request: Request) -> str:
    return f"{cookie_name(request)}-login"


def led_from_elsewhere(request: Request) -> bool:
    """Whether a browser says that another page leads here. What a person types, and what a program asks, is
    led by none."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    return site not in (None, "none", "same-origin") or (
        origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    )


def expect_own_page(request: Request) -> None:
    """Raises Forbidden unless the browser says that a page of this very address asks."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if led_from_elsewhere(request) or site == "none" or (site is None and origin is None):
        raise Forbidden("a page from elsewhere, or none, asks for a change", remedy=_REMEDY)


async def expect_csrf(request: Request, session: Session) -> None:
    given = request.headers.get(CSRF)
    if given is None:
        given = (await form_of(request)).get(FIELD)
    if given is None or not hmac.compare_digest(given.encode(), session.csrf.encode()):
        raise Forbidden("what the page brings to prove that it is ours is missing or old", remedy=_REMEDY)


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form, the last of each name; none of what is no form."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != FORM:
        return {}
    body = await request.body()
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=100))


def _secure(request: Request) -> bool:
    return request.url.scheme == "https"
