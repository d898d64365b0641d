"""Whom a session of a cluster is of: somebody whom the API server knows, an identity provider, or a token.

What the API server's users may do is asked anew all the time, and so is whether a token of Phoenix counts.
What a provider's people may do was said by the claims with which they came, which nobody says again: it
counts until the session ends, and no longer than `api.oidc` says the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from phoenix_orch.orchestrator.oidc_spec import OidcSpec
from phoenix_orch.orchestrator.token_keeping import TokenKeeper
from phoenix_orch.security.kube_review import KubeReviews, User
from phoenix_orch.security.rights import Grant, Kind, Principal, Role
from phoenix_orch.security.tokens import Token

_KEY, _TOKEN = "oidc", "phoenixToken"
"""What no user of a TokenReview has."""


class People:
    """Of all sessions."""

    def __init__(self, reviews: KubeReviews, tokens: TokenKeeper, agreed: str | None) -> None:
        """`agreed`: the `agreement` that counts now; None: no provider does."""
        self.reviews = reviews
        self.tokens = tokens
        self._agreed = agreed

    async def of(self, user: User) -> Principal | None:
        """With what they may do now; None where the session counts no more. Raises Retryable."""
        if _TOKEN in user:
            token = await self.tokens.standing(str(user[_TOKEN]))
            return None if token is None else self.tokens.principal(token)
        kept = user.get(_KEY)
        if kept is None:
            return await self.reviews.of(user)
        if self._agreed is None or kept["agreed"] != self._agreed:
            return None
        grants = tuple(Grant(Role(role), namespace) for role, namespace in kept["grants"])
        return Principal(str(user["username"]), Kind.OIDC, grants)

    def stands(self, user: User, tokens: Mapping[str, Token]) -> bool:
        """Whether the session counts with these tokens, as far as nobody else has to be asked."""
        if _TOKEN in user:
            token = tokens.get(str(user[_TOKEN]))
            return token is not None and token.lets_in(self.tokens.now())
        return _KEY not in user or user[_KEY]["agreed"] == self._agreed

    def user_by(self, token: Token) -> User:
        """Whoever came with a token of Phoenix, as a session keeps them."""
        return {"username": token.name, _TOKEN: token.id}

    def user_of(self, principal: Principal) -> User:
        """Somebody whom the provider knows, as a session keeps them."""
        grants = [[str(one.role), one.namespace] for one in principal.grants]
        return {"username": principal.name, _KEY: {"grants": grants, "agreed": self._agreed}}


def agreement(spec: OidcSpec) -> str:
    """The same for two configurations that know the same people, who may do the same. Pure."""
    said = spec.model_dump(mode="json", include={"issuer", "client_id", "name_claim", "grants"})
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
