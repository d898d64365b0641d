"""An attempt at a task, in metrics and as a span of the trace in which the task was wanted."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from phoenix_orch.observability import metrics, tracing
from phoenix_orch.observability.tracing import Span
from phoenix_orch.tasks.record import TaskRecord


@contextlib.contextmanager
def measured(record: TaskRecord) -> Iterator[Span]:
    """For as long as the attempt lasts. `record`: as the claim gave it."""
    begun = time.perf_counter()
    if record.started is not None:
        waited = max(0.0, (record.started - record.due).total_seconds())
        metrics.TASK_WAIT.labels(record.kind).observe(waited)
    metrics.TASKS_RUNNING.labels(record.kind).inc()
    try:
        with tracing.span(
            f"task {record.kind}",
            caller=record.trace,
            phoenix_task=record.id,
            phoenix_kind=record.kind,
            phoenix_attempt=record.attempt,
        ) as span:
            yield span
    finally:
        metrics.TASKS_RUNNING.labels(record.kind).dec()
        metrics.TASK_DURATION.labels(record.kind).observe(time.perf_counter() - begun)
