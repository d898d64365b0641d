"""How tasks get to workers: docket's queues, one for each priority. Only ids travel through them.

Nothing here decides anything: a delivery that is lost is made again by the sweep of the store, and one that
comes twice is refused by the store's claim. This is the one place that knows docket.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta

from docket import Docket, Worker
from docket.execution import TaskCall
from redis.exceptions import RedisError

from phoenix_orch.kernel.errors import Retryable
from phoenix_orch.tasks.spec import Priority
from phoenix_orch.tasks.store import PREFIX, Delivered

Handler = Callable[[str], Awaitable[None]]
"""Does what has to be done for a task, by its id. Raises nothing but Retryable."""
_RUN = "run"
_RECONNECT = timedelta(seconds=1)
_QUICK = timedelta(milliseconds=2)
"""Time between two looks for a free slot while tasks come and go."""
_QUIET = 1.0
"""Seconds after the last begin of a task, after which looks need not be quick."""
_TIMERS = timedelta(milliseconds=250)
"""How late a task with a time may begin."""

logging.getLogger("docket").setLevel(logging.CRITICAL)  # whoever runs tasks tells of them, once
logging.getLogger("docket").addHandler(logging.NullHandler())


class Delivery:
    """The queues; opened with `delivering`."""

    def __init__(self, dockets: dict[Priority, Docket]) -> None:
        self._dockets = dockets

    async def deliver(self, delivered: Iterable[Delivered], when: datetime | None = None) -> None:
        """Bring tasks to workers, whatever their queues think of them. Raises Retryable."""
        with _translated():
            for task in delivered:
                docket = self._dockets[task.priority]
                await docket.replace(_RUN, when or datetime.now(UTC), task.id)(task.id)

    async def deliver_lost(self, delivered: Iterable[Delivered]) -> None:
        """Bring those that no queue knows. Raises Retryable."""
        calls: dict[Priority, list[TaskCall]] = {}
        for task in delivered:
            call = self._dockets[task.priority].call(_RUN, key=task.id)(task.id)
            calls.setdefault(task.priority, []).append(call)
        with _translated():
            for priority, batch in calls.items():
                await self._dockets[priority].add_many(batch)

    async def add(self, task: Delivered, when: datetime | None = None) -> None:
        """Bring a new task. Raises Retryable."""
        with _translated():
            await self._dockets[task.priority].add(_RUN, when, task.id)(task.id)

    async def work(
        self,
        priority: Priority,
        handler: Handler,
        *,
        name: str,
        slots: int,
        lease: timedelta,
        pace: timedelta,
    ) -> None:
        """Give the tasks of one queue to `handler`, `slots` at once, until cancelled; then until it has come
        back from those it was given."""
        docket = self._dockets[priority]
        active = 0
        quiet: asyncio.TimerHandle | None = None

        def pause(between_looks: timedelta) -> None:
            worker.minimum_check_interval = between_looks

        async def run(id: str) -> None:  # noqa: A002 - the field's word
            nonlocal active, quiet
            active += 1
            if active >= slots:  # docket does not hear of the end of a task, but looks for it
                if quiet is not None:
                    quiet.cancel()
                pause(_QUICK)
                quiet = asyncio.get_running_loop().call_later(_QUIET, pause, pace)
            try:
                await handler(id)
            finally:
                active -= 1

        docket.register(run, [_RUN])
        async with Worker(
            docket,
            name=name,
            concurrency=slots,
            redelivery_timeout=lease,
            reconnection_delay=_RECONNECT,
            minimum_check_interval=pace,
            scheduling_resolution=_TIMERS,
            schedule_automatic_tasks=False,
        ) as worker:
            await worker.run_forever()


@contextlib.asynccontextmanager
async def delivering(url: str, *, prefix: str = PREFIX, connections: int = 256) -> AsyncIterator[Delivery]:
    """The queues on the server at `url`; its many connections are made as they are needed."""
    async with contextlib.AsyncExitStack() as stack:
        dockets = {}
        for priority in Priority:
            docket = Docket(
                name=f"{prefix}{priority}",
                url=_pooled(url, connections),
                execution_ttl=timedelta(0),  # what became of a task is in its record
            )
            docket.register(_nothing, [_RUN])
            with _translated():
                dockets[priority] = await stack.enter_async_context(docket)
        yield Delivery(dockets)


async def _nothing(id: str) -> None:  # noqa: A002
    """Stands for the function in processes that only bring tasks."""
    raise NotImplementedError


def _pooled(url: str, connections: int) -> str:
    """The URL with a pool of this size, which docket takes from nowhere else."""
    if "max_connections=" in url:
        return url
    return f"{url}{'&' if '?' in url else '?'}max_connections={connections}"


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError) as error:
        raise Retryable(
            f"the queue of tasks does not answer: {type(error).__name__}", remedy="see: phoenix doctor"
        ) from None
