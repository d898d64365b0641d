"""`/config` and `/apply`: the configuration of the whole."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

from fastapi import APIRouter, Header
from fastapi.responses import Response

from phoenix_orch.api.doors import READ, Administrator
from phoenix_orch.api.requests import ApplyRequest
from phoenix_orch.api.versions import etag, holds
from phoenix_orch.kernel.errors import NotFound, Outdated
from phoenix_orch.kernel.masking import Masker
from phoenix_orch.orchestrator.config import PhoenixFile
from phoenix_orch.orchestrator.operations_port import Operations
from phoenix_orch.orchestrator.views import Change

IfMatch = Annotated[
    str | None,
    Header(max_length=500, description="Apply only if what is applied now has this version."),
]


def routes(operations: Operations, masker: Masker) -> APIRouter:
    router = APIRouter(tags=["configuration"])
    changing = asyncio.Lock()

    def shown(config: PhoenixFile) -> bytes:
        """As everybody may see it. Its version comes from this, so that it gives nothing away, either."""
        told = masker.data(config.model_dump(mode="json", by_alias=True))
        return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")

    @router.get("/config", dependencies=[READ], response_model=dict[str, Any])
    async def get_config() -> Response:
        """What was applied last, everything that no file named any more included; values of environments
        are masked. Its `ETag` is for the `If-Match` of an apply."""
        config = await operations.config()
        if config is None:
            raise NotFound(
                "nothing was applied yet", remedy="`phoenix apply -f FILE` applies a configuration"
            )
        body = shown(config)
        return Response(body, media_type="application/json", headers={"etag": etag(body)})

    @router.post("/apply")
    async def apply_configuration(
        body: ApplyRequest, who: Administrator, if_match: IfMatch = None
    ) -> list[Change]:
        """Make a whole phoenix.yaml what is wanted, or none of it."""
        async with changing:
            if if_match is not None:
                config = await operations.config()
                if config is None or not holds(if_match, etag(shown(config))):
                    raise Outdated(
                        "what is applied was changed by somebody else in between",
                        remedy="look at `phoenix get config`, and apply again with its version",
                    )
            return await operations.apply(
                body.config,
                actor=who.name,
                dry_run=body.dry_run,
                even_if_unattainable=body.even_if_unattainable,
            )

    return router
