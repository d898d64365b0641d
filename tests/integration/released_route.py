"""A route whose canary has traffic, and commands beside a loop that runs."""

from __future__ import annotations

import asyncio

from phoenix_orch.traffic.embedded import EmbeddedRouter
from phoenix_orch.traffic.router import Backend, Group, TrafficState
from phoenix_orch.traffic.spec import RouteSpec


def group(revision):
    return Group(
        revision=revision, backends=(Backend(instance=revision, url=f"http://127.0.0.1:{len(revision)}"),)
    )


async def releasing(data_dir, route="web", **changes):
    router = EmbeddedRouter(data_dir / "router")
    await router.declare(route, RouteSpec(service=route))
    state = TrafficState(route=route, stable=group("old"), canary=group("new"), weight=20)
    return await router.write(state.model_copy(update=changes))


async def in_thread(function, *arguments):
    """Commands run loops of their own, which one that runs already does not allow."""
    return await asyncio.to_thread(function, *arguments)
