"""Hearing from the server which rollouts changed, for as long as somebody listens."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from phoenix_orch.kernel.errors import PhoenixError
from phoenix_orch.rollout.store.valkey_values import text_of
from phoenix_orch.runtime.cancellation import cancellation_kept
from phoenix_orch.runtime.valkey_client import address, answered, translated

_SILENCE = 5.0
"""Seconds without a word after which a watched connection is asked whether it still lives."""

_log = structlog.get_logger("phoenix.store")


async def changed_names(
    client: Redis,
    channel: str,
    *,
    timeout: timedelta,  # noqa: ASYNC109 - the port's word
) -> AsyncIterator[str]:
    """Names as they are published in `channel`; an empty name at least every `timeout`, also while the server
    is away, and once after every time it came back, since something may have been missed."""
    seconds = max(0.001, timeout.total_seconds())
    away = False
    while True:
        pubsub: Any = client.pubsub()
        try:
            async with answered(client):
                await pubsub.subscribe(channel)
            if away:
                _log.info("store answers again", store=address(client))
            away = False
            yield ""
            async for name in _published(client, pubsub, seconds):
                yield name
        except (RedisError, OSError, PhoenixError) as error:
            if not away:
                problem = error if isinstance(error, PhoenixError) else translated(error, client)
                _log.warning("store is away", reason=problem.message, remedy=problem.remedy)
            away = True
        finally:
            with contextlib.suppress(RedisError, OSError):
                await pubsub.aclose()
        yield ""
        await asyncio.sleep(min(seconds, 0.5))


async def _published(client: Redis, pubsub: Any, seconds: float) -> AsyncIterator[str]:
    """Names as they are published; an empty one after `seconds` of silence.

    Raises TimeoutError when pings are not answered either: the connection died without a word.
    """
    heard = time.monotonic()
    pinged: float | None = None
    while True:
        wait = seconds if pinged is None else min(seconds, _SILENCE)
        with cancellation_kept():
            message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=wait)
        now = time.monotonic()
        if message is not None:
            heard, pinged = now, None
            if message["type"] == "message":
                yield text_of(message["data"])
            continue
        yield ""
        if pinged is not None and now - pinged >= _SILENCE:
            raise TimeoutError
        if pinged is None and now - heard > _SILENCE:
            async with answered(client):
                await pubsub.ping()
            pinged = now
