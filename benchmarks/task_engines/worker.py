"""One worker process: `python -m benchmarks.task_engines.worker ENGINE URL COUNT`.

Tells on its standard output, as JSON, the time from the first to the last of `COUNT` tasks that ran in it,
and the time of the processor that it took meanwhile, in seconds; runs until it is killed.
"""

from __future__ import annotations

import json
import sys
import time
from threading import Lock

from benchmarks.task_engines.bare_docket import BareDocket
from benchmarks.task_engines.celery_engine import CeleryEngine
from benchmarks.task_engines.engine import Engine
from benchmarks.task_engines.phoenix import PhoenixEngine
from benchmarks.task_engines.saq_engine import SaqEngine
from benchmarks.task_engines.taskiq_engine import TaskiqEngine

ENGINES: dict[str, type[Engine]] = {
    "phoenix": PhoenixEngine,
    "docket": BareDocket,
    "taskiq-redis": TaskiqEngine,
    "saq": SaqEngine,
    "celery": CeleryEngine,
}


class Count:
    """Tells what it took from the first to the last of so many tasks."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._ran = 0
        self._first = self._processor = 0.0
        self._lock = Lock()

    def ran(self) -> None:
        with self._lock:
            self._ran += 1
            if self._ran == 1:
                self._first, self._processor = time.monotonic(), time.process_time()
            if self._ran == self._count:
                told = {
                    "seconds": time.monotonic() - self._first,
                    "processorSeconds": time.process_time() - self._processor,
                }
                print(json.dumps(told), flush=True)


def main() -> None:
    engine, url, count = sys.argv[1:]
    ENGINES[engine]().work(url, Count(int(count)).ran)


if __name__ == "__main__":
    main()
