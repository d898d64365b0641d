"""docket as Phoenix opens it, without Phoenix: no result is kept, and nothing is known of a task afterwards.

It looks every `PACE` whether a slot is free again. By default that is 250 ms, with 10 slots: at
most 40 tasks a second.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta

from benchmarks.task_engines.engine import SLOTS, called
from docket import Docket, Worker

PACE = timedelta(milliseconds=2)
"""Shorter ones take the time that tasks need."""


class BareDocket:
    async def enqueue(self, url: str, count: int) -> None:
        async with _docket(url, lambda: None) as docket:

            async def hand_in() -> None:
                await docket.add("nothing")()  # `add` chooses the key: called once, it adds one task only

            await called(count, hand_in)

    def work(self, url: str, ran: Callable[[], None]) -> None:
        async def run() -> None:
            async with (
                _docket(url, ran) as docket,
                Worker(
                    docket,
                    concurrency=SLOTS,
                    redelivery_timeout=timedelta(seconds=10),
                    minimum_check_interval=PACE,
                ) as worker,
            ):
                await worker.run_forever()

        logging.getLogger("docket").setLevel(logging.CRITICAL)
        asyncio.run(run())


def _docket(url: str, ran: Callable[[], None]) -> Docket:
    async def nothing() -> None:
        ran()

    docket = Docket(name="bare", url=f"{url}?max_connections=256", execution_ttl=timedelta(0))
    docket.register(nothing)
    return docket
