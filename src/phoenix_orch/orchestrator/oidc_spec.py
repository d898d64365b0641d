"""What phoenix.yaml says about an identity provider: whom it knows, and what they may do here."""

from __future__ import annotations

from pydantic import Field, field_validator

from phoenix_orch.orchestrator.loopback import loopback
from phoenix_orch.rollout.spec import Model
from phoenix_orch.security.rights import EVERYWHERE, Grant, Role

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519")
"""Signatures that prove something: whoever can check them cannot make them."""


class OidcGrant(Model):
    """What whoever has a value in a claim may do."""

    claim: str = Field(default="groups", min_length=1)
    """With dots for what is inside others: `realm_access.roles`."""
    value: str = Field(min_length=1)
    """As the claim has it, or as one of a list has it."""
    role: Role
    namespaces: tuple[str, ...] = (EVERYWHERE,)
    """Where; left out: everywhere."""

    @property
    def grants(self) -> tuple[Grant, ...]:
        return tuple(Grant(self.role, namespace) for namespace in self.namespaces)


class OidcSpec(Model):
    """An OpenID Connect provider that knows people, and signs tokens of programs.

    Relative paths are taken from where this file is.
    """

    issuer: str
    """Its address, as its tokens name it: `/.well-known/openid-configuration` is found below it."""
    client_id: str = Field(min_length=1)
    """As this Phoenix is registered there: people who log in get tokens for it."""
    client_secret_file: str | None = None
    """A file with the secret of the registration; left out: a public client, held by PKCE alone."""
    audience: str | None = None
    """What bearer tokens of programs have to be for; left out: the client id."""
    ca: str | None = None
    """A file in PEM of the authority that the provider's certificate is from; left out: the system's."""
    scopes: tuple[str, ...] = ("openid", "profile")
    """What is asked for at a login."""
    name_claim: str = "preferred_username"
    """What people are called by, with their subject behind it."""
    algorithms: tuple[str, ...] = Field(default=("RS256", "ES256", "PS256", "Ed25519"), min_length=1)
    """Signatures that count."""
    grants: tuple[OidcGrant, ...] = ()
    """Roles by claim. Whoever has none of these is known, and may do nothing."""

    @field_validator("issuer")
    @classmethod
    def _address(cls, value: str) -> str:
        """What it says repeats nothing: there may be a password in it."""
        here = value.startswith("http://") and loopback(value.removeprefix("http://"))
        if not value.startswith("https://") and not here:
            raise ValueError("not an https:// address; keys come from there")
        if any(mark in value for mark in "?#@"):
            raise ValueError("an issuer is an address without user, query and fragment")
        return value

    @field_validator("scopes")
    @classmethod
    def _asks_who(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "openid" not in value:
            raise ValueError("without openid a provider does not say who logs in")
        return value

    @field_validator("algorithms")
    @classmethod
    def _asymmetric(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in ALGORITHMS:
                raise ValueError(f"{name!r} is none of {', '.join(ALGORITHMS)}")
        return value
