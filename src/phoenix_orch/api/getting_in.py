"""The ways into the API of one machine, put together: socket, tokens, sessions, and an identity provider."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response

from phoenix_orch.api import approvals, login, single_sign_on, tokens
from phoenix_orch.api.bearer import by_no_other, by_token
from phoenix_orch.api.cookies import by_session
from phoenix_orch.api.hardening import Named
from phoenix_orch.api.leases import Leased, Leases
from phoenix_orch.api.login_page import page
from phoenix_orch.api.peer import by_peer
from phoenix_orch.api.rates import Rates
from phoenix_orch.orchestrator.api_spec import ApiSpec
from phoenix_orch.orchestrator.identity import Doorkeeper
from phoenix_orch.security.rights import Principal, Right


def install(app: FastAPI, identity: Doorkeeper, spec: ApiSpec, prefix: str) -> None:
    """Let in whom `identity` knows, over TCP too. Before middleware that has to see every answer."""
    leases = Leases()
    identity.ended = leases.end
    identity.provided = spec.oidc is not None and any(
        Right.APPROVE in one.role.rights for one in spec.oidc.grants
    )
    oidc = None if spec.oidc is None else single_sign_on.provider(spec.oidc, identity.now)
    signed = () if oidc is None else (single_sign_on.by_provider(oidc),)
    app.state.authenticators = (
        by_peer,
        by_token(identity.tokens),
        *signed,
        by_no_other,
        by_session(identity),
    )
    app.state.rates = Rates(spec.requests_per_second)
    app.add_middleware(Leased, leases=leases)
    app.add_middleware(Named, hosts=spec.hosts)
    app.include_router(login.api_routes(identity), prefix=prefix)
    app.include_router(login.page_routes(identity, oidc=oidc is not None))
    if oidc is not None:
        app.include_router(single_sign_on.routes(oidc, _begun(identity), _page))
    app.include_router(tokens.routes(identity.tokens), prefix=prefix)
    app.include_router(approvals.routes(identity.approving, identity.others), prefix=prefix)


def _begun(identity: Doorkeeper) -> single_sign_on.Begun:
    async def begun(request: Request, response: Response, principal: Principal) -> None:
        login.begin(identity, request, response, principal)

    return begun


def _page(request: Request, after: str, fault: str, status: int) -> Response:
    return page(request, after=after, oidc=True, fault=fault, status=status)
