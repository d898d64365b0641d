"""A loop ends when it is told to, whatever a library makes of that."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from phoenix_orch.runtime.cancellation import cancellation_kept


async def as_an_error(_: asyncio.Event) -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        raise ConnectionError("the connection ended") from None


async def as_a_result(_: asyncio.Event) -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return


@pytest.mark.parametrize("library", [as_an_error, as_a_result])
async def test_a_loop_hears_of_its_end(library: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    turns = 0

    async def loop() -> None:
        nonlocal turns
        while turns < 5:
            turns += 1
            try:
                with cancellation_kept():
                    await library(asyncio.Event())
            except ConnectionError:
                continue

    task = asyncio.create_task(loop())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task], timeout=5)
    assert task.cancelled()
    assert turns == 1


@pytest.mark.parametrize("library", [as_an_error, as_a_result])
async def test_a_time_out_around_it_is_a_time_out(
    library: Callable[[asyncio.Event], Awaitable[None]],
) -> None:
    async def asked() -> None:
        async with asyncio.timeout(0.01):
            with cancellation_kept():
                await library(asyncio.Event())

    with pytest.raises(TimeoutError):
        await asked()


async def test_a_time_out_within_it_stays_one() -> None:
    async def asked() -> None:
        with cancellation_kept():
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await asked()


async def test_an_error_stays_what_it_is() -> None:
    with pytest.raises(ConnectionError), cancellation_kept():
        raise ConnectionError
