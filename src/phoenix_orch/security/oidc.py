"""People and programs that an OpenID Connect provider knows: tokens that it signed, and logins by way of it.

Bearer tokens are checked here, with keys that the provider publishes. A login is the authorization code flow
with PKCE: the code is worth nothing to who intercepts it, and the answer counts once, in the browser that
asked. Nothing of a token, a code or the client's secret is told to anybody but the provider.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, urlencode

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jws import JWSRegistry

from phoenix_orch.kernel.errors import Retryable, Unauthenticated
from phoenix_orch.security import claims
from phoenix_orch.security.claims import ClaimGrant, Claims, Expected
from phoenix_orch.security.oidc_keys import Published, answer, signs
from phoenix_orch.security.oidc_logins import LOGIN, Login, Logins, MemoryLogins
from phoenix_orch.security.rights import Principal

LONGEST = 16_384
"""Characters of a token that is looked at."""
_REMEDY = "log in at the identity provider again"


@dataclass(frozen=True, slots=True)
class Registration:
    """What is agreed with the provider."""

    client_id: str
    audience: str
    """Of bearer tokens."""
    secret_file: str | None = None
    """Read at each login, so that a new secret needs no restart; None: a public client."""
    scopes: tuple[str, ...] = ("openid",)
    algorithms: tuple[str, ...] = ("RS256",)
    """Signatures that count: none that whoever can check it can make, too."""
    name_claim: str = "sub"
    grants: tuple[ClaimGrant, ...] = ()


@dataclass(frozen=True, slots=True)
class Known:
    """Somebody, for as long as their token counts."""

    principal: Principal
    lasts: float
    """Seconds from now."""


class Oidc:
    """One provider. For one event loop."""

    def __init__(
        self,
        published: Published,
        agreed: Registration,
        now: Callable[[], datetime],
        logins: Logins | None = None,
    ) -> None:
        """`now`: on a clock on the wall. `logins`: those under way; left out: of this process alone."""
        self._published = published
        self._agreed = agreed
        self._now = now
        self._logins = logins or MemoryLogins(now)

    async def known_by(self, token: str) -> Known:
        """Who bears the token.

        Raises Unauthenticated where it does not count, Retryable where only the provider, who is away, could
        say so.
        """
        found = await self._checked(token, Expected(self._published.issuer, self._agreed.audience))
        lasts = claims.expiry(found) - self._now().timestamp()
        return Known(self._principal(found), lasts)

    async def begin(self, redirect: str, after: str) -> tuple[str, str]:
        """(address at the provider, state). The browser that has the state may bring the answer.

        `redirect`: where the provider sends it then, exactly. `after`: the path that is shown in the end.
        Raises Retryable while the provider is away, or what keeps logins.
        """
        discovery = await self._published.discovery()
        now = self._now()
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        await self._logins.keep(_digest(state), Login(nonce, verifier, redirect, after, now + LOGIN))
        asked = {
            "response_type": "code",
            "client_id": self._agreed.client_id,
            "redirect_uri": redirect,
            "scope": " ".join(self._agreed.scopes),
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge(verifier),
            "code_challenge_method": "S256",
        }
        joint = "&" if "?" in discovery.authorization else "?"
        return discovery.authorization + joint + urlencode(asked), state

    async def finish(self, state: str, held: str, code: str, issuer: str | None) -> tuple[Principal, str]:
        """(who logged in, the path to show). `held`: the state that the browser was given; `issuer`: who
        says that it answers, where it does.

        Raises Unauthenticated for an answer to no login of this browser, or one that was answered before, and
        Retryable while the provider is away, or what keeps logins.
        """
        if not hmac.compare_digest(_digest(state), _digest(held)):
            raise Unauthenticated("this browser did not begin this login", remedy="log in again from here")
        login = await self._logins.take(_digest(state))
        if login is None or self._now() >= login.until:
            raise Unauthenticated("this login was finished already, or took too long", remedy=_REMEDY)
        if not code or (issuer is not None and issuer != self._published.issuer):
            raise Unauthenticated("the identity provider let nobody in", remedy=_REMEDY)
        token = (await self._exchanged(login, code)).get("id_token")
        client = self._agreed.client_id
        expected = Expected(self._published.issuer, client, client_id=client, nonce=login.nonce)
        found = await self._checked(token if isinstance(token, str) else "", expected)
        return self._principal(found), login.after

    def _principal(self, found: Claims) -> Principal:
        return claims.principal(found, self._agreed.grants, self._agreed.name_claim)

    async def _checked(self, token: str, expected: Expected) -> Claims:
        """The claims of a token that is signed and counts. Raises Unauthenticated, Retryable."""
        kid, algorithm = _header(token)
        if algorithm not in self._agreed.algorithms:
            raise _refused("it is not signed in a way that counts here")
        key = await self._published.key(kid)
        if key is None or not signs(key, algorithm):
            raise _refused("the identity provider has no such key")
        registry = JWSRegistry(algorithms=[algorithm], strict_check_header=False)
        registry.max_header_length, registry.max_payload_length = LONGEST, LONGEST
        try:
            found = jwt.decode(token, key, algorithms=[algorithm], registry=registry).claims
        except (JoseError, ValueError, TypeError, RecursionError):
            raise _refused("its signature is wrong") from None
        fault = claims.fault(found, expected, self._now())
        if fault is not None:
            raise _refused(fault)
        return found

    async def _exchanged(self, login: Login, code: str) -> dict[str, Any]:
        """What the provider gives for the code."""
        discovery = await self._published.discovery()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": login.redirect,
            "code_verifier": login.verifier,
            "client_id": self._agreed.client_id,
        }
        sent: dict[str, Any] = {"data": form}
        secret = await asyncio.to_thread(self._secret)
        if secret is not None and discovery.basic:
            sent["auth"] = quote_plus(self._agreed.client_id), quote_plus(secret)  # RFC 6749, 2.3.1
        elif secret is not None:
            form["client_secret"] = secret
        async with self._published.http() as client:
            return await answer(client, discovery.token, **sent)

    def _secret(self) -> str | None:
        if self._agreed.secret_file is None:
            return None
        try:
            return Path(self._agreed.secret_file).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise Retryable(
                "the file of api.oidc.clientSecretFile cannot be read", remedy="mend that, then log in again"
            ) from None


def shaped_like_one(text: str) -> bool:
    """Whether it is a signed token at all: three parts, as RFC 7515 has them."""
    return text.count(".") == 2


def issuer_of(token: str) -> str:
    """Who says to have signed a token, which nobody has checked yet; empty where it does not say."""
    if len(token) > LONGEST or not shaped_like_one(token):
        return ""
    part = token.split(".")[1]
    try:
        found = json.loads(base64.urlsafe_b64decode(part.encode("ascii") + b"=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        return ""
    issuer = found.get("iss") if isinstance(found, dict) else None
    return issuer if isinstance(issuer, str) else ""


def challenge(verifier: str) -> str:
    """What is told of a verifier before it is shown: S256 of RFC 7636."""
    digest = hashlib.sha256(verifier.encode("ascii")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _header(token: str) -> tuple[str, str]:
    """(name of the key, algorithm) as a token says itself. Raises Unauthenticated."""
    if len(token) > LONGEST:
        raise _refused("it is too long")
    part = token.partition(".")[0]
    try:
        header = json.loads(base64.urlsafe_b64decode(part.encode("ascii") + b"=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        raise _refused("it is no signed token") from None
    if not isinstance(header, dict):
        raise _refused("it is no signed token")
    kid, algorithm = header.get("kid", ""), header.get("alg")
    if not isinstance(kid, str) or not isinstance(algorithm, str) or "crit" in header:
        raise _refused("it is no signed token")
    return kid, algorithm


def _refused(why: str) -> Unauthenticated:
    return Unauthenticated(f"this token of the identity provider lets nobody in: {why}", remedy=_REMEDY)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
