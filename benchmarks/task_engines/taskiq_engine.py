"""taskiq with the stream broker of taskiq-redis: its only one that acknowledges. No results."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from benchmarks.task_engines.engine import SLOTS, called
from taskiq.api import run_receiver_task
from taskiq_redis import RedisStreamBroker


class TaskiqEngine:
    async def enqueue(self, url: str, count: int) -> None:
        broker = _broker(url, lambda: None)
        await broker.startup()
        nothing = broker.find_task("nothing")
        assert nothing is not None
        await called(count, nothing.kiq)
        await broker.shutdown()

    def work(self, url: str, ran: Callable[[], None]) -> None:
        async def run() -> None:
            broker = _broker(url, ran)
            await run_receiver_task(broker, run_startup=True, max_async_tasks=SLOTS)

        asyncio.run(run())


def _broker(url: str, ran: Callable[[], None]) -> RedisStreamBroker:
    broker = RedisStreamBroker(url, consumer_id="0")

    @broker.task(task_name="nothing")
    async def nothing() -> None:
        ran()

    return broker
