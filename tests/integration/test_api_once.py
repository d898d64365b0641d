"""Idempotency keys: a request is acted on once, whoever repeats it and whatever becomes of the process."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from tests.integration.fake_phoenix import FakeOperations
from tests.integration.known import admin

from phoenix_orch.api.server import create_app
from phoenix_orch.kernel.errors import Conflict, Invalid, Retryable
from phoenix_orch.orchestrator.kept_answers import KeptAnswer, MemoryAnswers, SpareAnswers, ValkeyAnswers
from phoenix_orch.rollout.store.valkey import ValkeyStore
from phoenix_orch.runtime.valkey_server import ValkeyServer

COMMANDS = "/api/v1/rollouts/web/commands"
PAUSE = {"kind": "pause", "reason": "lunch"}


@pytest.fixture
def operations():
    return FakeOperations()


@pytest.fixture
async def http(operations):
    transport = httpx.ASGITransport(create_app(operations, authenticators=(admin,)))
    async with httpx.AsyncClient(transport=transport, base_url="http://phoenix") as http:
        yield http


def key(word="k-1"):
    return {"Idempotency-Key": word}


async def test_a_repeated_request_gets_the_same_answer_and_changes_nothing(http, operations):
    first = await http.post(COMMANDS, json=PAUSE, headers=key())
    again = await http.post(COMMANDS, json=PAUSE, headers=key())
    assert (again.status_code, again.content) == (first.status_code, first.content) == (202, first.content)
    assert again.headers["content-type"] == first.headers["content-type"]
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert len(operations.calls) == 1
    await http.post(COMMANDS, json=PAUSE, headers=key("k-2"))
    await http.post(COMMANDS, json=PAUSE)
    assert len(operations.calls) == 3


async def test_a_refusal_is_repeated_too(http, operations):
    first = await http.post(COMMANDS, json={"kind": "resume"}, headers=key())
    again = await http.post(COMMANDS, json={"kind": "resume"}, headers=key())
    assert first.status_code == again.status_code == 409
    assert first.json() == again.json()


@pytest.mark.parametrize(
    ("path", "body"),
    [(COMMANDS, {"kind": "abort"}), ("/api/v1/rollouts/web/undo", PAUSE), (COMMANDS + "?x=1", PAUSE)],
)
async def test_the_key_of_another_request_is_refused(http, operations, path, body):
    await http.post(COMMANDS, json=PAUSE, headers=key())
    answer = await http.post(path, json=body, headers=key())
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert "another request" in answer.json()["detail"]
    assert len(operations.calls) == 1


async def test_while_it_is_under_way_the_same_request_waits_outside(http, operations, monkeypatch):
    begun, go = asyncio.Event(), asyncio.Event()
    command = operations.command

    async def slow(*words, **more):
        begun.set()
        await go.wait()
        return await command(*words, **more)

    monkeypatch.setattr(operations, "command", slow)
    first = asyncio.create_task(http.post(COMMANDS, json=PAUSE, headers=key()))
    async with asyncio.timeout(30):
        await begun.wait()
    answer = await http.post(COMMANDS, json=PAUSE, headers=key())
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    go.set()
    assert (await first).status_code == 202
    assert (await http.post(COMMANDS, json=PAUSE, headers=key())).status_code == 202
    assert len(operations.calls) == 1


async def test_what_came_to_nothing_may_be_tried_again(http, operations, monkeypatch):
    async def fail(*words, **more):
        raise Retryable("the store is away")

    with monkeypatch.context() as away:
        away.setattr(operations, "command", fail)
        assert (await http.post(COMMANDS, json=PAUSE, headers=key())).status_code == 503
    assert (await http.post(COMMANDS, json=PAUSE, headers=key())).status_code == 202


async def test_without_the_store_of_answers_nothing_is_done(http, operations, monkeypatch):
    async def away(*words):
        raise Retryable("the store is away")

    monkeypatch.setattr(operations.answers, "begin", away)
    assert (await http.post(COMMANDS, json=PAUSE, headers=key())).status_code == 503
    assert operations.calls == []


async def test_keys_belong_to_who_sends_them(http, operations):
    mine, other = key() | {"Authorization": "Bearer a"}, key() | {"Authorization": "Bearer b"}
    await http.post(COMMANDS, json=PAUSE, headers=mine)
    answer = await http.post(COMMANDS, json=PAUSE, headers=other)
    assert "idempotent-replayed" not in answer.headers


@pytest.mark.parametrize("word", ["", "x" * 201, "a\tb"])
async def test_what_is_no_key_is_refused(http, operations, word):
    answer = await http.post(COMMANDS, json=PAUSE, headers=key(word))
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert operations.calls == []


async def test_reading_needs_no_key(http, operations):
    first = await http.get("/api/v1/rollouts/web", headers=key())
    assert (await http.get("/api/v1/services/web", headers=key())).status_code == first.status_code == 200


@pytest.mark.parametrize("kind", ["memory", "valkey"])
async def test_kept_answers(tmp_path, kind):
    """The contract of both, and that what Valkey keeps outlives the process."""
    server = ValkeyServer(tmp_path)
    stores = []

    async def opened():
        if kind == "memory":
            return MemoryAnswers()
        stores.append(ValkeyStore((await server.ensure()).url))
        return ValkeyAnswers(stores[-1].client)

    try:
        answers = await opened()
        answer = KeptAnswer(status=202, content_type="application/json", body=b'{"a": "\xff"}')
        assert await answers.begin("k", "r") is None
        with pytest.raises(Conflict):
            await answers.begin("k", "r")
        with pytest.raises(Invalid):
            await answers.begin("k", "other")
        await answers.keep("k", "r", answer)
        if kind == "valkey":
            answers = await opened()
            seconds = await stores[-1].client.ttl("phoenix:answer:k")
            assert 24 * 3600 - 60 < seconds <= 24 * 3600
        assert await answers.begin("k", "r") == answer
        assert await answers.begin("l", "r") is None
        await answers.forget("l")
        assert await answers.begin("l", "r") is None
    finally:
        for store in stores:
            await store.close()
        await server.stop()


async def test_what_one_process_keeps_is_bounded_also_of_requests_that_were_begun_elsewhere(monkeypatch):
    monkeypatch.setattr(MemoryAnswers, "MOST", 10)
    answers, answer = MemoryAnswers(), KeptAnswer(status=200, content_type="application/json", body=b"{}")
    for number in range(30):
        await answers.keep(f"k{number}", "r", answer)
    assert len(answers._kept) == 10
    assert await answers.begin("k29", "r") == answer


async def test_while_the_shared_store_is_away_each_replica_has_its_own():
    class Away(MemoryAnswers):
        away = False
        asked = 0

        async def begin(self, key, request):
            self.asked += 1
            if self.away:
                await asyncio.sleep(60)
            return await super().begin(key, request)

    now = [0.0]
    shared, answer = Away(), KeptAnswer(status=202, content_type="application/json", body=b"{}")
    one, other = (SpareAnswers(shared, MemoryAnswers(), lambda: now[0]) for _ in range(2))
    assert await one.begin("k", "r") is None
    await one.keep("k", "r", answer)
    assert await other.begin("k", "r") == answer
    shared.away = True
    async with asyncio.timeout(5):
        assert await one.begin("l", "r") is None
        await one.keep("l", "r", answer)
        assert await one.begin("l", "r") == answer
    asked = shared.asked
    assert await one.begin("m", "r") is None
    assert shared.asked == asked  # not asked again for a while
    shared.away = False
    now[0] = 60
    assert await one.begin("k", "r") == answer
