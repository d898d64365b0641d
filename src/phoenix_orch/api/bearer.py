"""`Authorization: Bearer phx_…`: tokens of Phoenix."""

from __future__ import annotations

from fastapi import Request

from phoenix_orch.api.doors import Authenticator
from phoenix_orch.api.leases import STATE, Credential
from phoenix_orch.kernel.errors import Unauthenticated
from phoenix_orch.orchestrator.token_keeping import TokenKeeper
from phoenix_orch.security.rights import Principal
from phoenix_orch.security.tokens import PREFIX


def by_token(keeper: TokenKeeper) -> Authenticator:
    """Whoever shows a token that lets in."""

    async def authenticate(request: Request) -> Principal | None:
        text = bearer(request)
        if text is None or not text.startswith(PREFIX):
            return None
        token = await keeper.known_by(text)
        if token is None:
            raise Unauthenticated(
                "this token lets nobody in: it is unknown, revoked or has expired",
                remedy="`phoenix token list` shows those that do; `phoenix token create` makes one",
            )
        lasts = None if token.expires is None else (token.expires - keeper.now()).total_seconds()
        setattr(request.state, STATE, Credential(f"token:{token.id}", lasts))
        return keeper.principal(token)

    return authenticate


async def by_no_other(request: Request) -> Principal | None:
    """The last one: whoever shows something that nobody before knew what to do with."""
    if bearer(request) is None:
        return None
    raise Unauthenticated("this is no token that Phoenix knows", remedy="`phoenix token create` makes one")


def bearer(request: Request) -> str | None:
    """What stands after `Bearer`; None where nothing does.

    Raises Unauthenticated where it is said twice: what a proxy let through for one would act as the other.
    """
    said = request.headers.getlist("authorization")
    if len(said) > 1:
        raise Unauthenticated(
            "the request says twice who asks (Authorization)", remedy="send one token, and no other beside it"
        )
    scheme, _, text = (said[0] if said else "").partition(" ")
    return text.strip() if scheme.lower() == "bearer" and text.strip() else None
