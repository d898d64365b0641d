"""The API of a replica in a cluster: on a TCP port, for whoever the cluster's rules let in."""

from __future__ import annotations

import structlog
from fastapi import Request

from phoenix_orch.api.doors import Authenticator, address_of
from phoenix_orch.api.rates import Rates
from phoenix_orch.api.server import create_app
from phoenix_orch.api.tcp import serve_tcp
from phoenix_orch.api.tls import Tls
from phoenix_orch.kernel.errors import Unauthenticated
from phoenix_orch.orchestrator.api_spec import ApiSpec
from phoenix_orch.orchestrator.kubernetes import ApiParts
from phoenix_orch.security.kube_review import KubeReviews
from phoenix_orch.security.rights import Principal

_log = structlog.get_logger("phoenix.api")


async def serve_in_cluster(parts: ApiParts) -> None:
    """Served until cancelled. Raises Invalid where the address or the certificate cannot be used."""
    app = create_app(parts.operations, log=parts.audit, authenticators=(by_kubernetes(parts.reviews),))
    app.state.rates = Rates(ApiSpec().requests_per_second)
    host, port = parts.listen
    tls = None if parts.tls is None else Tls(*parts.tls)
    try:
        await serve_tcp(app, host, port, _listening, tls)
    finally:
        await app.state.live.aclose()


def by_kubernetes(reviews: KubeReviews) -> Authenticator:
    """Whoever shows a token of the cluster, with what its rules give them there."""

    async def authenticate(request: Request) -> Principal | None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        if request.app.state.rates is not None:
            request.app.state.rates.may_try(address_of(request))  # a wrong one costs questions elsewhere
        found = await reviews.principal(token.strip())
        if found is None:
            raise Unauthenticated(
                "the API server of the cluster does not know this token",
                remedy="kubectl create token SERVICE-ACCOUNT makes one",
            )
        return found

    return authenticate


def _listening(port: int) -> None:
    _log.info("answers the API", port=port)
