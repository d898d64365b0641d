"""Who asks, as they may see it themselves."""

from __future__ import annotations

from phoenix_orch.orchestrator.views import GrantView, Identity
from phoenix_orch.security.acting import Caller


def identity_of(caller: Caller) -> Identity:
    principal = caller.principal
    return Identity(
        name=principal.name,
        kind=str(principal.kind),
        grants=tuple(GrantView(role=str(one.role), namespace=one.namespace) for one in principal.grants),
        address=caller.address,
    )
