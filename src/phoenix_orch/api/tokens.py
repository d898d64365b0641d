"""`/tokens`: what programs, and people elsewhere, get in with."""

from __future__ import annotations

from datetime import timedelta

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from phoenix_orch.api.doors import Keeper
from phoenix_orch.api.requests import LONGEST_LIFE, RevokeRequest, TokenRequest
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.orchestrator.identity_views import NewToken, TokenView, view_of
from phoenix_orch.orchestrator.token_keeping import TokenKeeper
from phoenix_orch.security.rights import Grant


def routes(keeper: TokenKeeper) -> APIRouter:
    router = APIRouter(tags=["identity"])

    @router.get("/tokens")
    async def list_tokens(_: Keeper) -> list[TokenView]:
        """All tokens, also those that let nobody in any more; the newest last."""
        return [view_of(one, keeper.now()) for one in await keeper.all()]

    # What is told here is told once and has to arrive: no part of it is masked.
    @router.post("/tokens", status_code=201, response_model=NewToken, response_class=JSONResponse)
    async def create_token(response: Response, body: TokenRequest, who: Keeper) -> NewToken:
        """Make a token. Its text is in this answer and nowhere else: no key makes it come again."""
        response.headers["cache-control"] = "no-store"
        if body.lasting is not None and not timedelta() < body.lasting <= LONGEST_LIFE:
            raise Invalid(
                "lasting is more than a year, or nothing",
                remedy="give at most 366d, or null for one that lasts until it is revoked",
            )
        grants = tuple(Grant(body.role, namespace) for namespace in dict.fromkeys(body.namespaces))
        making = keeper.planned if body.dry_run else keeper.create
        minted = await making(body.name, grants, by=who.principal, lasting=body.lasting)
        return NewToken(token="" if body.dry_run else minted.text, view=view_of(minted.token, keeper.now()))

    @router.post("/tokens/{id}/revoke")
    async def revoke_token(id: str, body: RevokeRequest, who: Keeper) -> TokenView:  # noqa: A002
        """Let nobody in with it from now on, and end its streams and sessions.

        The last token that administers takes a second person.
        """
        if body.dry_run:
            return view_of(await keeper.revocable(id), keeper.now())
        revoked = await keeper.revoke(id, by=who.principal, reason=body.reason)
        return view_of(revoked, keeper.now())

    return router
