"""Streams are held by what let them in for as long as they are open, and not a moment longer."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from phoenix_orch.api.leases import EVENTS, STATE, Credential, Leased, Leases

pytestmark = pytest.mark.anyio
YEAR = 366 * 86400.0


async def _streamed(app: ASGIApp, leases: Leases, credential: Credential) -> None:
    """One request that `app` answers."""

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        pass

    scope = {"type": "http", "method": "GET", "state": {STATE: credential}}
    await Leased(app, leases)(scope, receive, send)


async def _begin(send: Send) -> None:
    headers = [(b"content-type", EVENTS.encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def test_nothing_stays_of_a_stream_that_is_over_however_long_its_token_lasts() -> None:
    leases = Leases()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await _begin(send)
        assert leases.open == {"token:a"}
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    task = asyncio.create_task(_streamed(app, leases, Credential("token:a", YEAR)))
    await task
    kept = weakref.ref(task)
    del task
    await asyncio.sleep(0)  # the loop lets go of what woke us
    gc.collect()
    assert kept() is None
    assert leases.open == frozenset()


async def test_a_stream_that_breaks_is_held_no_longer() -> None:
    leases = Leases()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await _begin(send)
        raise OSError("the source broke")

    with pytest.raises(OSError, match="broke"):
        await _streamed(app, leases, Credential("token:a", YEAR))
    assert leases.open == frozenset()


async def test_a_stream_ends_with_the_time_of_what_let_it_in() -> None:
    leases, forever = Leases(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await _begin(send)
        await forever.wait()

    async with asyncio.timeout(30):
        await _streamed(app, leases, Credential("token:a", 0.01))
    assert leases.open == frozenset()
