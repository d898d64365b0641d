"""A name that leads nowhere is answered with those that would, and with the one that was probably meant."""

from __future__ import annotations

import pytest

from phoenix_orch.kernel.errors import NotFound
from phoenix_orch.orchestrator import names
from phoenix_orch.rollout.status import Rollout
from phoenix_orch.rollout.store.memory import MemoryStore

pytestmark = pytest.mark.anyio


async def stored(*rollouts: str) -> MemoryStore:
    store = MemoryStore()
    for name in rollouts:
        await store.put(Rollout(name=name, service=f"{name}-service", route=name, target="r1"))
    return store


async def test_what_is_there_is_found() -> None:
    store = await stored("web", "shop")
    assert (await names.rollout(store, "shop")).name == "shop"
    assert (await names.rollout_of(store, "web-service")).name == "web"


async def test_what_is_not_there_is_answered_with_what_is() -> None:
    store = await stored("web", "shop")
    with pytest.raises(NotFound, match=r"no rollout 'wev'; did you mean 'web'\?") as raised:
        await names.rollout(store, "wev")
    assert raised.value.remedy == "rollouts: shop, web"
    with pytest.raises(NotFound) as raised:
        await names.rollout_of(store, "zzz")
    assert raised.value.message == "there is no service 'zzz'"
    assert raised.value.remedy == "services: shop-service, web-service"


async def test_where_nothing_is_it_is_said_how_there_would_be() -> None:
    with pytest.raises(NotFound) as raised:
        await names.rollout(await stored(), "web")
    assert "phoenix apply" in raised.value.remedy
