"""Server-sent events over a real socket: what is told, who lags, who comes back, who is turned away."""

from __future__ import annotations

import asyncio
import contextlib
import json
from datetime import timedelta

import httpx
import pytest
from starlette.types import Message
from tests.integration.fake_phoenix import NOW, FakeOperations, verdict, view

from phoenix_orch.api import feed, live, streams
from phoenix_orch.api.server import create_app, serve
from phoenix_orch.health_validator.observation import VerdictKind
from phoenix_orch.rollout.status import Event, State

ROLLOUT = "/api/v1/rollouts/web/stream"
OVERVIEW = "/api/v1/stream"


class Counted(FakeOperations):
    """Counts readings, and tells more when a test says so."""

    def __init__(self):
        super().__init__()
        self.reads = 0
        self.more_events = []
        self.names = {"web"}

    async def view(self, name):
        self.reads += 1
        return await super().view(name)

    def _known(self, name):
        super()._known(name if name in self.names else "gone")

    async def events(self, name, limit):
        return [*await super().events(name, limit), *self.more_events]

    async def observations(self, name, since, limit):
        found = await super().observations(name, since, limit)
        return [one.model_copy(update={"t1": self.pictures[0].at}) for one in found]

    def tell(self, name="web"):
        for queue in self.told:
            queue.put_nowait(name)


class Messages:
    """A stream read message by message."""

    def __init__(self, answer):
        self.answer = answer
        self.lines = answer.aiter_lines()

    async def __anext__(self):
        fields = {}
        async for line in self.lines:
            if not line and fields.keys() - {"retry"}:
                return fields
            name, _, value = line.partition(": ")
            if name:
                fields[name] = value
        raise StopAsyncIteration

    def __aiter__(self):
        return self

    async def until(self, event):
        """The next message of that kind, and the names of those before it."""
        before = []
        async for message in self:
            if message.get("event") == event:
                return message, before
            before.append(message.get("event"))
        raise AssertionError(f"the stream ended with {before}")


@pytest.fixture
async def operations(tmp_path, monkeypatch):
    monkeypatch.setattr(feed, "TICK", 0.05)
    monkeypatch.setattr(live, "TICK", 0.05)
    monkeypatch.setattr(feed, "GAP", 0.01)
    operations = Counted()
    operations.app = create_app(operations)
    operations.socket = tmp_path / "phoenix.sock"
    listening = asyncio.Event()
    operations.serving = asyncio.create_task(serve(operations.app, operations.socket, listening.set))
    async with asyncio.timeout(60):
        await listening.wait()
        yield operations
        operations.serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await operations.serving


@contextlib.asynccontextmanager
async def following(operations, path=ROLLOUT, last_id=None):
    headers = {"Last-Event-ID": last_id} if last_id else {}
    transport = httpx.AsyncHTTPTransport(uds=str(operations.socket))
    async with (
        httpx.AsyncClient(transport=transport, base_url="http://phoenix", timeout=60) as http,
        http.stream("GET", path, headers=headers) as answer,
    ):
        assert answer.status_code == 200
        yield Messages(answer)


async def test_a_viewer_gets_the_picture_and_then_what_changes(operations):
    async with following(operations) as messages:
        assert messages.answer.headers["content-type"].startswith("text/event-stream")
        first = await anext(messages)
        assert first["event"] == "rollout"
        assert json.loads(first["data"])["rollout"]["status"]["state"] == "Progressing"
        operations.more_events = [Event(at=NOW, reason="Paused", message="a person said so", release=3)]
        operations.pictures = [
            view(State.PAUSED).model_copy(
                update={"at": NOW + timedelta(seconds=1), "verdict": verdict(VerdictKind.EXTEND)}
            )
        ]
        operations.tell()
        message, before = await messages.until("rollout")
        assert json.loads(message["data"])["rollout"]["status"]["state"] == "Paused"
        assert before == ["event", "observation", "verdict"]


async def test_many_viewers_cost_one_reading_of_each_change(operations, monkeypatch):
    monkeypatch.setattr(feed, "TICK", 60)
    async with contextlib.AsyncExitStack() as stack:
        viewers = [await stack.enter_async_context(following(operations)) for _ in range(20)]
        for viewer in viewers:
            await anext(viewer)
        before = operations.reads
        for number in range(3):
            operations.pictures = [view(State.PAUSED, step=number)]
            operations.tell()
            seen = [json.loads((await viewer.until("rollout"))[0]["data"]) for viewer in viewers]
            assert {one["rollout"]["status"]["step"] for one in seen} == {number}
        assert operations.reads - before <= 6  # a change that comes while one is read is read again
        assert len(operations.told) == 1


async def test_who_comes_back_goes_on_where_it_was(operations):
    async with following(operations) as messages:
        first = await anext(messages)
    operations.pictures = [view(State.PAUSED)]
    operations.tell()
    async with following(operations) as other:
        while (await other.until("rollout"))[0]["id"] == first["id"]:
            pass
    async with following(operations, last_id=first["id"]) as messages:
        message = await anext(messages)
        assert message["event"] == "rollout"
        assert message["id"] != first["id"]


@pytest.mark.parametrize("last_id", ["elsewhere-12", "x"])
async def test_who_comes_from_another_life_is_told_to_read_anew(operations, last_id):
    async with following(operations, last_id=last_id) as messages:
        assert [(await anext(messages))["event"] for _ in range(2)] == ["reset", "rollout"]


async def test_who_lags_behind_the_ring_is_reset(operations, monkeypatch):
    monkeypatch.setattr(feed, "RING_BYTES", 1)
    async with following(operations) as messages:
        first = await anext(messages)
        for step in (1, 2, 3):
            operations.pictures = [view(State.PAUSED, step=step)]
            operations.tell()
            await messages.until("rollout")
    async with following(operations, last_id=first["id"]) as messages:
        assert (await anext(messages))["event"] == "reset"


async def test_a_store_that_is_away_is_told_and_what_was_missed_read_anew(operations):
    async with following(operations) as messages:
        await anext(messages)
        operations.away = True
        message, _ = await messages.until("away")
        assert json.loads(message["data"])["detail"] == "the store does not answer"
        operations.away = False
        await messages.until("reset")


async def test_a_removed_rollout_ends_its_stream(operations):
    async with following(operations) as messages, following(operations, OVERVIEW) as overview:
        await anext(messages)
        operations.names.clear()
        operations.tell()
        assert [message["event"] async for message in messages] == ["gone"]
        message, _ = await overview.until("gone")
        assert json.loads(message["data"]) == {"name": "web"}


async def test_the_overview_tells_components_and_changed_rollouts(operations):
    async with following(operations, OVERVIEW) as messages:
        first = await anext(messages)
        assert first["event"] == "components"
        assert json.loads(first["data"])[0] == {"name": "store", "state": "ready"}
        operations.tell()
        message, _ = await messages.until("rollout")
        assert json.loads(message["data"])["rollout"]["name"] == "web"


async def test_silence_is_broken_by_comments(operations, monkeypatch):
    monkeypatch.setattr(feed, "KEEPALIVE", 0.02)
    async with following(operations) as messages:
        async for line in messages.lines:
            if line == ": still here":
                break
        else:
            raise AssertionError("no comment came")


async def test_at_the_end_viewers_are_told_to_come_back(operations):
    async with following(operations) as messages, following(operations, OVERVIEW) as overview:
        await anext(messages)
        await anext(overview)
        operations.serving.cancel()
        for stream in (messages, overview):
            assert [message["event"] async for message in stream][-1] == "reconnect"


async def test_a_connection_does_not_last_for_ever(operations, monkeypatch):
    monkeypatch.setattr(feed, "LONGEST", 0.1)
    monkeypatch.setattr(feed, "KEEPALIVE", 0.05)
    async with following(operations) as messages:
        assert [message["event"] async for message in messages][-1] == "reconnect"


async def test_a_viewer_that_leaves_is_forgotten_and_nothing_runs_any_more(operations, monkeypatch):
    monkeypatch.setattr(feed, "LINGER", 0.05)
    async with following(operations) as messages, following(operations, OVERVIEW) as overview:
        await anext(messages)
        await anext(overview)
    while operations.told:
        await asyncio.sleep(0.01)
    assert all(one.ended for one in operations.app.state.live._all())


async def test_too_many_viewers_are_refused(operations, monkeypatch):
    monkeypatch.setattr(live, "MOST_VIEWERS", 1)
    transport = httpx.AsyncHTTPTransport(uds=str(operations.socket))
    async with following(operations) as messages, httpx.AsyncClient(transport=transport) as http:
        await anext(messages)
        answer = await http.get("http://phoenix/api/v1/stream")
        assert (answer.status_code, answer.json()["code"]) == (503, "retryable")


async def test_an_unknown_rollout_has_no_stream(operations):
    transport = httpx.AsyncHTTPTransport(uds=str(operations.socket))
    async with httpx.AsyncClient(transport=transport) as http:
        answer = await http.get("http://phoenix/api/v1/rollouts/nope/stream")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_a_slow_reader_holds_no_messages_back(operations, monkeypatch):
    """It reads nothing while megabytes go by: others get all of them, and it is told to begin anew."""
    monkeypatch.setattr(feed, "RING_BYTES", 200_000)
    padding = "x" * 60_000
    async with following(operations) as slow, following(operations) as quick:
        await anext(slow)
        await anext(quick)
        for step in range(60):
            shown = view(State.PAUSED)
            rollout = shown.rollout.model_copy(update={"applied": f"{step}{padding}"})
            operations.pictures = [shown.model_copy(update={"rollout": rollout})]
            operations.tell()
            await quick.until("rollout")
        (source,) = operations.app.state.live._feeds.values()
        assert sum(map(len, source._ring._messages)) < 300_000
        _, before = await slow.until("reset")
        assert len(before) < 60


async def test_who_takes_nothing_gives_its_place_up(operations, monkeypatch):
    """A connection that is open and never read from: without that, so many of them shut everybody out."""
    monkeypatch.setattr(streams, "STALLED", 0.05)
    of_all = operations.app.state.live
    stalled = streams.Stream(await of_all.overview(""))
    taken: list[str] = []

    async def send(message: Message) -> None:
        taken.append(message["type"])
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    async with asyncio.timeout(20):
        await stalled.stream_response(send)
    assert taken == ["http.response.start", "http.response.body"]
    assert sum(one.viewers for one in of_all._all()) == 0
