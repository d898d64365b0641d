"""Whom a session of a cluster is of: somebody whom the API server knows, or an identity provider.

What the API server's users may do is asked anew all the time. What a provider's people may do was said by
the claims with which they came, which nobody says again: it counts until the session ends, and no longer than
`api.oidc` says the same.
"""

from __future__ import annotations

import hashlib
import json

from phoenix_orch.orchestrator.oidc_spec import OidcSpec
from phoenix_orch.security.kube_review import KubeReviews, User
from phoenix_orch.security.rights import Grant, Kind, Principal, Role

_KEY = "oidc"
"""What no user of a TokenReview has."""


class People:
    """Of all sessions."""

    def __init__(self, reviews: KubeReviews, agreed: str | None) -> None:
        """`agreed`: the `agreement` that counts now; None: no provider does."""
        self.reviews = reviews
        self._agreed = agreed

    async def of(self, user: User) -> Principal | None:
        """With what they may do now; None where the session counts no more. Raises Retryable."""
        kept = user.get(_KEY)
        if kept is None:
            return await self.reviews.of(user)
        if self._agreed is None or kept["agreed"] != self._agreed:
            return None
        grants = tuple(Grant(Role(role), namespace) for role, namespace in kept["grants"])
        return Principal(str(user["username"]), Kind.OIDC, grants)

    def user_of(self, principal: Principal) -> User:
        """Somebody whom the provider knows, as a session keeps them."""
        grants = [[str(one.role), one.namespace] for one in principal.grants]
        return {"username": principal.name, _KEY: {"grants": grants, "agreed": self._agreed}}


def agreement(spec: OidcSpec) -> str:
    """The same for two configurations that know the same people, who may do the same. Pure."""
    said = spec.model_dump(mode="json", include={"issuer", "client_id", "name_claim", "grants"})
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
