"""Writes while the API server fails: done once, told truly, and the abort path in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from phoenix_orch.kernel.errors import NotFound, Retryable
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.errors import AlreadyExists, Changed, Unanswered, Unreachable
from phoenix_orch.kube.lanes import NORMAL
from phoenix_orch.kube.patches import merge_patch_of
from phoenix_orch.kube.resources import CONFIG_MAPS, PODS, Object
from phoenix_orch.kube.retry import Backoff
from phoenix_orch.testing.api_faults import WRITES, Answer, Fault, Half, Hang, Reset, Slow
from phoenix_orch.testing.faulty_api_server import FaultyApiServer

pytestmark = pytest.mark.cluster

IMPATIENT = replace(NORMAL, attempt=0.5, backoff=Backoff(0.01, 0.1))
NOT_DONE: list[Fault] = [
    Answer(429, "TooManyRequests", retry_after=1),
    Answer(500, "InternalError"),
    Answer(503, "ServiceUnavailable"),
    Answer(504, "Timeout"),
    Reset(),
    Hang(),
]
DONE: list[Fault] = [Reset(done=True), Hang(done=True), Half()]


@pytest.fixture
async def server(kube: KubeClient) -> AsyncIterator[FaultyApiServer]:
    async with FaultyApiServer(kube.target) as server:
        yield server


@pytest.fixture
async def client(server: FaultyApiServer) -> AsyncIterator[KubeClient]:
    async with KubeClient(server.target, normal=IMPATIENT) as client:
        yield client


def config(**data: str) -> Object:
    return {"metadata": {"name": "a"}, "data": data}


@pytest.mark.parametrize("fault", NOT_DONE, ids=repr)
async def test_what_was_not_done_is_done(
    kube: KubeClient, server: FaultyApiServer, client: KubeClient, fault: Fault
) -> None:
    rule = server.inject(fault, verb=WRITES, times=2)
    made = await client.create(CONFIG_MAPS, config(x="1"))
    assert rule.hits == 2
    server.inject(fault, verb=WRITES, times=2)
    made = await client.patch(CONFIG_MAPS, "a", merge_patch_of(made, {"data": {"x": "2"}}))
    server.inject(fault, verb=WRITES, times=2)
    made = await client.replace(CONFIG_MAPS, {**made, "data": {"x": "3"}})
    server.inject(fault, verb=WRITES, times=2)
    await client.apply(CONFIG_MAPS, config(y="4"), force=False)
    assert (await kube.get(CONFIG_MAPS, "a"))["data"] == {"x": "3", "y": "4"}
    server.inject(fault, verb=WRITES, times=2)
    await client.delete(CONFIG_MAPS, "a", uid=made["metadata"]["uid"])
    with pytest.raises(NotFound):
        await kube.get(CONFIG_MAPS, "a")
    assert sum(asked.verb in WRITES for asked in server.asked) == 15


@pytest.mark.parametrize("fault", DONE, ids=repr)
async def test_what_was_done_unheard_is_not_done_twice(
    kube: KubeClient, server: FaultyApiServer, client: KubeClient, fault: Fault
) -> None:
    """A second one changes nothing, and the caller learns that the first may have been its own."""
    server.inject(fault, verb="create")
    with pytest.raises(AlreadyExists) as exists:
        await client.create(CONFIG_MAPS, config(x="1"))
    assert exists.value.maybe_ours
    made = await kube.get(CONFIG_MAPS, "a")
    server.inject(fault, verb="patch")
    with pytest.raises(Changed) as changed:
        await client.patch(CONFIG_MAPS, "a", merge_patch_of(made, {"data": {"x": "2"}}))
    assert changed.value.maybe_ours
    made = await kube.get(CONFIG_MAPS, "a")
    assert made["data"] == {"x": "2"}
    server.inject(fault, verb="patch")
    assert (await client.apply(CONFIG_MAPS, config(y="3"), force=False))["data"] == {"x": "2", "y": "3"}
    server.inject(fault, verb="delete")
    await client.delete(CONFIG_MAPS, "a", uid=made["metadata"]["uid"])
    with pytest.raises(NotFound):
        await kube.get(CONFIG_MAPS, "a")


async def test_a_name_the_api_server_gives_is_not_asked_for_twice(
    kube: KubeClient, server: FaultyApiServer, client: KubeClient
) -> None:
    server.inject(Reset(done=True), verb="create")
    with pytest.raises(Unanswered):
        await client.create(CONFIG_MAPS, {"metadata": {"generateName": "given-", "labels": {"given": "yes"}}})
    assert len((await kube.list(CONFIG_MAPS, labels="given=yes")).items) == 1


async def test_an_object_made_anew_is_not_deleted_by_a_repeat(
    kube: KubeClient, server: FaultyApiServer
) -> None:
    made = await kube.create(CONFIG_MAPS, config())
    server.inject(Reset(done=True), verb="delete")
    server.inject(Slow(4.0), verb="delete")
    async with KubeClient(server.target) as client:
        deleting = asyncio.create_task(client.delete(CONFIG_MAPS, "a", uid=made["metadata"]["uid"]))
        while server.count("delete") < 2:
            await asyncio.sleep(0.01)
        await kube.create(CONFIG_MAPS, config(anew="yes"))
        with pytest.raises(Changed):
            await deleting
    assert (await kube.get(CONFIG_MAPS, "a"))["data"] == {"anew": "yes"}


async def test_an_api_server_that_is_down_is_told_in_time(server: FaultyApiServer, kube: KubeClient) -> None:
    await server.refuse()
    async with KubeClient(server.target, normal=replace(IMPATIENT, patience=1.0)) as client:
        async with asyncio.timeout(5):
            with pytest.raises(Unreachable, match="cannot be reached"):
                await client.get(CONFIG_MAPS, "a")


async def aborted(client: KubeClient) -> Object:
    """As an abort does it: read, write weight 0 and the latch on the version read, again on Changed."""
    while True:
        try:
            found = await client.urgent.get(CONFIG_MAPS, "a")
            latch = {"metadata": {"annotations": {"abort": "r2"}}, "data": {"weight": "0"}}
            return await client.urgent.patch(CONFIG_MAPS, "a", merge_patch_of(found, latch))
        except (Changed, Retryable):
            continue


async def test_the_abort_path_is_in_time_when_half_of_all_writes_fail(kube: KubeClient) -> None:
    """R2: every second write a conflict or 500, hundreds of ordinary calls that hang: within 5 s."""
    await kube.create(CONFIG_MAPS, config(weight="20"))
    for seed in range(5):
        async with FaultyApiServer(kube.target, seed=seed) as server, KubeClient(server.target) as client:
            server.inject(Hang(), resource="pods", times=10**6)
            server.inject(Answer(409, "Conflict"), verb=WRITES, share=0.25, times=10**6)
            server.inject(Answer(500, "InternalError"), verb=WRITES, share=1 / 3, times=10**6)
            others = [asyncio.create_task(client.get(PODS, f"p{number}")) for number in range(300)]
            while server.count("get", "pods") < 16:
                await asyncio.sleep(0.01)
            async with asyncio.timeout(5):
                done = await aborted(client)
            assert done["data"] == {"weight": "0"}
            assert done["metadata"]["annotations"] == {"abort": "r2"}
            for other in others:
                other.cancel()
            await asyncio.wait(others)


async def test_a_storm_of_429_does_not_become_ours(server: FaultyApiServer, kube: KubeClient) -> None:
    """Repeats stay within their budget whatever the number of callers."""
    server.inject(Answer(429, "TooManyRequests"), times=10**6)
    limits = replace(IMPATIENT, repeats=5, repeats_rate=0, rate=10_000, burst=10_000)
    async with KubeClient(server.target, normal=limits) as client:
        calls = [client.get(CONFIG_MAPS, "a") for _ in range(100)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(answer, Retryable) for answer in answers)
    assert len(server.asked) <= 100 + 5 + 100 // 5
