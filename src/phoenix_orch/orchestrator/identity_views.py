"""Tokens and people as people and programs see them."""

from __future__ import annotations

from datetime import datetime

from phoenix_orch.rollout.spec import Model
from phoenix_orch.security.rights import Grant
from phoenix_orch.security.tokens import Token


class TokenView(Model):
    """A token without what lets in."""

    id: str
    name: str
    grants: tuple[Grant, ...]
    maker: str
    """Who made it: it speaks for them."""
    state: str
    """`valid`, `expired` or `revoked`."""
    created: datetime
    expires: datetime | None
    revoked: datetime | None
    last_used: datetime | None


class NewToken(Model):
    """What is told once."""

    token: str
    """What goes behind `Authorization: Bearer`. It is kept nowhere."""
    view: TokenView


class SecondPerson(Model):
    wanted: bool
    """Somebody else may approve, so that it takes their agreement; with it, it may be done now."""


class SessionView(Model):
    csrf: str
    """For `X-CSRF-Token` of what changes something."""
    begun: datetime
    until: datetime
    """It ends then at the latest."""


class LoginCode(Model):
    """Lets one browser in, once and within a minute."""

    code: str


def view_of(token: Token, now: datetime) -> TokenView:
    state = "revoked" if token.revoked is not None else "valid" if token.lets_in(now) else "expired"
    return TokenView(state=state, **token.model_dump(exclude={"digest"}))
