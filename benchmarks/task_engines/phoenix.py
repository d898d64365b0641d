"""Phoenix's own: a record for each task, with a log and a lease."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.task_engines.engine import SLOTS, called

from phoenix_orch.tasks.context import TaskContext
from phoenix_orch.tasks.port import RunRequest
from phoenix_orch.tasks.process import run_worker
from phoenix_orch.tasks.registry import Registry, task
from phoenix_orch.tasks.service import TaskService
from phoenix_orch.tasks.store import TaskStore
from phoenix_orch.tasks.worker import WorkerSettings


class PhoenixEngine:
    async def enqueue(self, url: str, count: int) -> None:
        store = TaskStore(url)
        try:
            tasks = TaskService(store, _registry(lambda: None))
            await called(count, lambda: tasks.run(RunRequest(kind="nothing"), actor="ann"))
        finally:
            await store.close()

    def work(self, url: str, ran: Callable[[], None]) -> None:
        run_worker(url, _registry(ran), settings=WorkerSettings(slots=SLOTS))


def _registry(ran: Callable[[], None]) -> Registry:
    @task(kind="nothing", summary="Does nothing")
    async def nothing(context: TaskContext) -> None:  # noqa: ARG001
        ran()

    return Registry(nothing)
