"""The store in memory keeps the contract, and breaks it on demand."""

from __future__ import annotations

import pytest

from phoenix_orch.kernel.errors import Conflict, Retryable
from phoenix_orch.rollout.status import Status
from phoenix_orch.rollout.store.memory import MemoryStore
from phoenix_orch.testing.store_contract import CONTRACT, Check
from phoenix_orch.testing.store_samples import SHOP, command, event


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
async def test_contract(check: Check) -> None:
    await check(MemoryStore())


async def test_away_hits_as_many_calls_as_told_and_does_nothing() -> None:
    store = MemoryStore()
    store.away(2)
    for _ in range(2):
        with pytest.raises(Retryable):
            await store.put(SHOP)
    assert await store.rollouts() == []
    assert (await store.put(SHOP)).version == 1


async def test_conflict_hits_conditional_writes_alone() -> None:
    store = MemoryStore()
    read = await store.put(SHOP)
    store.conflict(2)
    await store.append_events("shop", [event(1)])
    with pytest.raises(Conflict):
        await store.put(read)
    with pytest.raises(Conflict):
        await store.save(read, Status(release=1), events=[event(2)])
    assert await store.get("shop") == read
    assert (await store.save(read, Status(release=1))).status.release == 1
    assert await store.events("shop") == [event(1)]


async def test_a_lost_answer_comes_after_the_effect() -> None:
    store = MemoryStore()
    read = await store.put(SHOP)
    store.lose_answers(3)
    with pytest.raises(Retryable):
        await store.save(read, Status(release=1), events=[event(1)])
    with pytest.raises(Retryable):
        await store.command("shop", command("c1"))
    with pytest.raises(Retryable):
        await store.append_events("shop", [event(2)])
    await store.command("shop", command("c1"))
    await store.append_events("shop", [event(2)])
    after = await store.get("shop")
    assert after.status.release == 1
    assert after.commands == (command("c1"),)
    assert await store.events("shop") == [event(1), event(2)]
    with pytest.raises(Conflict):
        await store.save(read, Status(release=1), events=[event(1)])
