"""saq; jobs are forgotten at once when they are over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from benchmarks.task_engines.engine import SLOTS, called
from redis.asyncio import Redis
from saq import Worker
from saq.queue.redis import RedisQueue


class SaqEngine:
    async def enqueue(self, url: str, count: int) -> None:
        queue = RedisQueue(Redis.from_url(url))
        await queue.connect()
        await called(count, lambda: queue.enqueue("nothing", ttl=-1))
        await queue.disconnect()

    def work(self, url: str, ran: Callable[[], None]) -> None:
        async def nothing(context: Any) -> None:  # noqa: ARG001
            ran()

        async def run() -> None:
            queue = RedisQueue(Redis.from_url(url))
            await queue.connect()
            await Worker(queue, [("nothing", nothing)], concurrency=SLOTS).start()

        asyncio.run(run())
