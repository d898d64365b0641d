"""Celery with threads; a task is acknowledged when it has run, as with the others. No results."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from benchmarks.task_engines.engine import SLOTS
from celery import Celery


class CeleryEngine:
    async def enqueue(self, url: str, count: int) -> None:
        app = _app(url, lambda: None)
        nothing = app.tasks["nothing"]

        def hand_in() -> None:
            for _ in range(count):
                nothing.delay()

        await asyncio.to_thread(hand_in)

    def work(self, url: str, ran: Callable[[], None]) -> None:
        _app(url, ran).worker_main(
            ["worker", "--pool=threads", f"--concurrency={SLOTS}", "--loglevel=CRITICAL"]
        )


def _app(url: str, ran: Callable[[], None]) -> Celery:
    app = Celery("bench", broker=url.replace("unix://", "redis+socket://"))
    app.conf.update(
        task_acks_late=True,
        task_ignore_result=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
    )

    @app.task(name="nothing")
    def nothing() -> None:
        ran()

    return app
