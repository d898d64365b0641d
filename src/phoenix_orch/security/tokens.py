"""API tokens: what is kept of them, and which of them lets in. Pure but for the random bytes of a new one.

    phx_<id>_<secret>      id: 10 characters, to find and revoke it; secret: 32 random bytes, base64url

Of the secret only its SHA-256 is kept. That is enough: 256 random bits cannot be guessed, so that a slow
hash would make nothing safer.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import AwareDatetime, Field

from phoenix_orch.rollout.spec import Model
from phoenix_orch.security.rights import Grant, Kind, Principal, Role

PREFIX = "phx_"
ID_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
ID_LENGTH = 10
USED_EVERY = timedelta(minutes=1)
"""How exactly it is known when a token was last used."""
MOST_TOKENS = 1000


class Token(Model):
    """What is kept of one token."""

    id: str
    name: str
    digest: str
    """SHA-256 of the secret, hexadecimal."""
    grants: tuple[Grant, ...]
    maker: str
    """Key of the principal who made it."""
    created: AwareDatetime
    expires: AwareDatetime | None = None
    """None: it lasts until it is revoked."""
    revoked: AwareDatetime | None = None
    last_used: AwareDatetime | None = None
    """To the minute."""

    @property
    def principal(self) -> Principal:
        return Principal(self.name, Kind.TOKEN, self.grants, self.maker)

    def lets_in(self, now: datetime) -> bool:
        return self.revoked is None and (self.expires is None or now < self.expires)

    @property
    def administers(self) -> bool:
        """It may do everything everywhere."""
        return any(grant.role is Role.ADMIN and grant.namespace == "*" for grant in self.grants)


class Tokens(Model):
    """All of them, by id."""

    tokens: dict[str, Token] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Minted:
    """A new token, and the text that its owner gets once."""

    token: Token
    text: str

    def __repr__(self) -> str:
        return f"Minted({self.token.id})"


def mint(
    name: str,
    grants: tuple[Grant, ...],
    *,
    maker: str,
    now: datetime,
    lasting: timedelta | None,
) -> Minted:
    """A token that lasts so long from now; None: until it is revoked."""
    made = "".join(secrets.choice(ID_ALPHABET) for _ in range(ID_LENGTH))
    secret = secrets.token_urlsafe(32)
    token = Token(
        id=made,
        name=name,
        digest=digest_of(secret),
        grants=grants,
        maker=maker,
        created=now,
        expires=None if lasting is None else now + lasting,
    )
    return Minted(token, f"{PREFIX}{made}_{secret}")


def digest_of(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def named_by(text: str) -> tuple[str, str] | None:
    """(id, secret) of a text that looks like a token; None for one that does not."""
    if not text.startswith(PREFIX):
        return None
    name, mark, secret = text.removeprefix(PREFIX).partition("_")
    return (name, secret) if mark else None


def found(tokens: Mapping[str, Token], text: str, now: datetime) -> Token | None:
    """The token that lets in with this text. It takes as long for an id that does not exist."""
    named = named_by(text)
    if named is None:
        return None
    name, secret = named
    token = tokens.get(name)
    expected = token.digest if token is not None else digest_of("")
    right = hmac.compare_digest(digest_of(secret), expected)
    return token if token is not None and right and token.lets_in(now) else None


def last_admin(tokens: Mapping[str, Token], name: str, now: datetime) -> bool:
    """Without this token none would be left that administers."""
    left = [token for token in tokens.values() if token.administers and token.lets_in(now)]
    return [token.id for token in left] == [name]


def is_due(token: Token, now: datetime) -> bool:
    """Its last use has to be written down again."""
    return token.last_used is None or now - token.last_used >= USED_EVERY
