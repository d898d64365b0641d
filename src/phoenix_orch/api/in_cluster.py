"""The API of a replica in a cluster: on a TCP port, for whoever the cluster's rules let in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
from fastapi import FastAPI, Request

from phoenix_orch.api import approvals, cluster_login, single_sign_on, tokens
from phoenix_orch.api.bearer import by_token
from phoenix_orch.api.cluster_login import ClusterLogin, by_cookie
from phoenix_orch.api.cluster_people import People, agreement
from phoenix_orch.api.doors import Authenticator, address_of
from phoenix_orch.api.ended_elsewhere import EndedElsewhere
from phoenix_orch.api.hardening import Named
from phoenix_orch.api.leases import Leased, Leases
from phoenix_orch.api.rates import Rates
from phoenix_orch.api.server import PREFIX, create_app
from phoenix_orch.api.single_sign_on import by_provider
from phoenix_orch.api.tcp import serve_tcp
from phoenix_orch.api.tls import Tls
from phoenix_orch.kernel.errors import Unauthenticated
from phoenix_orch.orchestrator.kubernetes import ApiParts
from phoenix_orch.orchestrator.operations_port import Operations
from phoenix_orch.orchestrator.token_keeping import TokenKeeper
from phoenix_orch.security.audit_log import AuditRecords
from phoenix_orch.security.kube_review import KubeReviews
from phoenix_orch.security.rights import Principal

_log = structlog.get_logger("phoenix.api")


async def serve_in_cluster(
    parts: ApiParts, *, extend: Callable[[FastAPI, Operations, AuditRecords], None] = lambda *_: None
) -> None:
    """Served until cancelled. `extend` adds to the application: the console.

    Raises Invalid where the address or the certificate cannot be used.
    """

    def built() -> FastAPI:
        app = app_of(parts)
        extend(app, parts.operations, parts.audit)
        return app

    app = await asyncio.to_thread(built)  # seconds on a busy node, and the probes wait for this loop
    host, port = parts.listen
    tls = None if parts.tls is None else Tls(*parts.tls)
    try:
        async with asyncio.TaskGroup() as group:
            ending = group.create_task(app.state.ends.run(), name="ends of streams")
            await serve_tcp(app, host, port, _listening, tls)
            ending.cancel()
    finally:
        await app.state.live.aclose()


def app_of(parts: ApiParts) -> FastAPI:
    """What is served. Raises Invalid where the authority of the identity provider cannot be read."""
    spec = parts.spec.oidc
    leases = Leases()
    keeper = TokenKeeper(
        parts.tokens,
        parts.acts,
        now=parts.sessions.now,
        ended=leases.end,
        second=None,  # the cluster's rules let somebody administer without a token of Phoenix
        namespace=parts.namespace,
    )
    people = People(parts.reviews, keeper, None if spec is None else agreement(spec))
    oidc = (
        None
        if spec is None
        else single_sign_on.provider(spec, parts.sessions.now, logins=parts.logins, namespace=parts.namespace)
    )
    signed = () if oidc is None or spec is None else (by_provider(oidc, issuer=spec.issuer),)
    ways = (
        *signed,
        by_token(keeper),
        by_kubernetes(parts.reviews),
        by_cookie(parts.sessions, people),
    )
    app = create_app(parts.operations, log=parts.audit, authenticators=ways)
    app.state.rates = Rates(parts.spec.requests_per_second)
    app.state.ends = EndedElsewhere(leases, parts.sessions, people, parts.tokens)
    app.add_middleware(Leased, leases=leases)
    if parts.spec.hosts:
        app.add_middleware(Named, hosts=parts.spec.hosts)
    issuer = "" if spec is None else spec.issuer
    door = ClusterLogin(parts.sessions, people, parts.acts, ended=leases.end, issuer=issuer)
    app.include_router(tokens.routes(keeper), prefix=PREFIX)
    app.include_router(approvals.routes(parts.approving), prefix=PREFIX)
    app.include_router(cluster_login.routes(door))
    if oidc is not None:
        app.include_router(single_sign_on.routes(oidc, door.begin_by_provider, door.page))
    return app


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
                remedy="kubectl create token SERVICE-ACCOUNT makes one, or `phoenix token create`",
            )
        return found

    return authenticate


def _listening(port: int) -> None:
    _log.info("answers the API", port=port)
