"""What the claims of a token that a provider signed say about its bearer. Pure.

A claim is whatever somebody elsewhere wrote: it is compared with what is expected, and never told to anybody.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from phoenix_orch.security.rights import Grant, Kind, Principal

LEEWAY = 60.0
"""Seconds that the clocks of the provider and of this machine may differ."""
LONGEST_NAME = 200

Claims = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Expected:
    """What a token has to say to count here."""

    issuer: str
    audience: str
    """One of those the token is for."""
    client_id: str | None = None
    """Where the token was asked for by a login: who asked for it."""
    nonce: str | None = None
    """Where the token was asked for by a login: what was sent along."""


@dataclass(frozen=True, slots=True)
class ClaimGrant:
    """What is granted to whoever has a value in a claim."""

    claim: str
    """`groups`, or with dots for what is inside others: `realm_access.roles`."""
    value: str
    grants: tuple[Grant, ...]


def fault(claims: Claims, expected: Expected, now: datetime) -> str | None:
    """Why the token does not count, without a word of it; None where it does."""
    moment = now.timestamp()
    if claims.get("iss") != expected.issuer:
        return "it is from another issuer"
    if expected.audience not in _texts(claims.get("aud")):
        return "it is for another audience"
    expires = _number(claims.get("exp"))
    if expires is None:
        return "it does not say when it expires"
    if expires + LEEWAY <= moment:
        return "it has expired"
    for name in ("nbf", "iat"):
        begins = _number(claims.get(name))
        if begins is None and name in claims:
            return "it does not say when it begins"
        if begins is not None and begins - LEEWAY > moment:
            return "it does not count yet"
    if not _name(claims.get("sub")):
        return "it does not say who it is about"
    return _login_fault(claims, expected)


def _login_fault(claims: Claims, expected: Expected) -> str | None:
    if expected.nonce is not None:
        nonce = claims.get("nonce")
        if not isinstance(nonce, str) or not hmac.compare_digest(_bytes(nonce), _bytes(expected.nonce)):
            return "it is the answer to another login"
    if expected.client_id is not None:
        party = claims.get("azp")
        if party != expected.client_id and (party is not None or len(_texts(claims.get("aud"))) > 1):
            return "it was given to another client"
    return None


def expiry(claims: Claims) -> float:
    """When it ends, in seconds since 1970, for a token without a fault."""
    return float(claims["exp"]) + LEEWAY


def granted(claims: Claims, rules: Sequence[ClaimGrant]) -> tuple[Grant, ...]:
    """What the rules give, each grant once, in the order of the rules."""
    found = [grant for rule in rules if rule.value in _held(claims, rule.claim) for grant in rule.grants]
    return tuple(dict.fromkeys(found))


def principal(claims: Claims, rules: Sequence[ClaimGrant], name_claim: str) -> Principal:
    """Whoever a token without a fault is about.

    A provider promises nothing of names but that of `sub`: people may change others, to somebody else's. So
    the subject is a part of the name wherever another claim is shown.
    """
    subject = _name(claims["sub"])
    shown = _name(_inside(claims, name_claim))
    name = subject if shown in ("", subject) else f"{shown} ({subject})"
    return Principal(name, Kind.OIDC, granted(claims, rules))


def _held(claims: Claims, name: str) -> frozenset[str]:
    return frozenset(_texts(_inside(claims, name)))


def _inside(claims: Claims, name: str) -> object:
    """The claim of exactly this name, else the one that its dots lead to."""
    if name in claims:
        return claims[name]
    found: object = claims
    for part in name.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return None
        found = found[part]
    return found


def _texts(value: object) -> tuple[str, ...]:
    """A claim that may be one text or a list of them."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list):
        return tuple(one for one in value if isinstance(one, str))
    return ()


def _name(value: object) -> str:
    """A text that can stand in a line of a log; empty for whatever else."""
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_NAME or not value.isprintable():
        return ""
    return value.strip()


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if abs(number) < 1e12 else None  # neither endless nor no number


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
