"""`/healthz/…`: what a supervisor asks. It needs no right, and tells no more than names of components."""

from __future__ import annotations

from fastapi import APIRouter, Response

from phoenix_orch.api.doors import OPEN
from phoenix_orch.kernel.errors import PhoenixError
from phoenix_orch.orchestrator.operations_port import Operations
from phoenix_orch.rollout.spec import Model

GOOD = frozenset({"ok", "ready"})
NEEDED = frozenset({"store", "router", "watches"})
"""What requests cannot be answered without; who else is missing is told by `/health`."""


class Probe(Model):
    """The answer to a probe."""

    ok: bool
    missing: tuple[str, ...] = ()
    """Names of what is needed and not there."""


def routes(operations: Operations) -> APIRouter:
    router = APIRouter(prefix="/healthz", tags=["phoenix"], dependencies=[OPEN])
    started = False

    async def missing() -> tuple[str, ...]:
        try:
            components = (await operations.info()).get("components", ())
        except PhoenixError:
            return ("orchestrator",)
        return tuple(
            str(one["name"]) for one in components if one["name"] in NEEDED and one["state"] not in GOOD
        )

    def answered(response: Response, absent: tuple[str, ...]) -> Probe:
        response.headers["cache-control"] = "no-store"
        if absent:
            response.status_code = 503
        return Probe(ok=not absent, missing=absent)

    @router.get("/live")
    async def probe_live(response: Response) -> Probe:
        """The process answers. Restart it when it does not."""
        return answered(response, ())

    @router.get("/ready", responses={503: {"model": Probe, "description": "Something needed is missing."}})
    async def probe_ready(response: Response) -> Probe:
        """Requests can be answered; else 503 with the names of what is missing."""
        return answered(response, await missing())

    @router.get("/startup", responses={503: {"model": Probe, "description": "It has not started yet."}})
    async def probe_startup(response: Response) -> Probe:
        """As `ready`, until that was so once; 200 from then on."""
        nonlocal started
        absent = () if started else await missing()
        started = not absent
        return answered(response, absent)

    return router
