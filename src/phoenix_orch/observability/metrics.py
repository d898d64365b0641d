"""Every metric of the process. Names are Prometheus's; the guide's own are made by k8s/monitoring.

Counters live as long as the process, and are counted where things happen. Labels have few values each: a
route is a template, a status is a number, a kind is a word of ours. What is said of single rollouts comes
from `rollouts` and goes with them.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client import exposition as text
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.process_collector import ProcessCollector

from phoenix_orch.observability import tracing
from phoenix_orch.observability.backups import BackupCollector
from phoenix_orch.observability.drills import drill_collector
from phoenix_orch.observability.resources import ResourceCollector
from phoenix_orch.observability.rollouts import RolloutCollector

LIMITS = (0.1, 0.2, 2.0)
"""Seconds that the guide judges latency by: the first two of a release, the last of an alert."""
EDGES = tuple(sorted({0.005, 0.01, 0.025, 0.05, 0.5, 1.0, 5.0, 10.0, *LIMITS}))
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OPENMETRICS = "application/openmetrics-text"
_LONG_EDGES = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600)

disable_created_metrics()  # type: ignore[no-untyped-call] # a second series for each, which Prometheus does not need to find resets

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)  # its start is how a restart is told from a reset
REGISTRY.register(ResourceCollector())
BACKUPS = BackupCollector()
REGISTRY.register(BACKUPS)
DRILLS = drill_collector()
REGISTRY.register(DRILLS)

BUILD = Gauge("phoenix_build_info", "1, with the version of Phoenix.", ["version"], registry=REGISTRY)
BUILD.labels(version("phoenix-orchestrator")).set(1)

# -- requests: the guide's requests_total, request_duration_seconds, error_rate ---------------------

REQUESTS = Counter(
    "requests",
    "Requests that were answered, by template of the route and status.",
    ["method", "route", "code"],
    registry=REGISTRY,
)
DURATION = Histogram(
    "request_duration_seconds",
    "From the request to the end of its answer; of a stream of events to its beginning.",
    ["method", "route"],
    buckets=EDGES,
    registry=REGISTRY,
)

# -- tasks: the guide's tasks_total, task_success_rate -----------------------------------------------

TASKS = Counter(
    "tasks",
    "Tasks that ended in the hands of a worker, by what came of them.",
    ["kind", "outcome"],
    registry=REGISTRY,
)
TASK_DURATION = Histogram(
    "phoenix_task_duration_seconds",
    "From the start of an attempt at a task to its end.",
    ["kind"],
    buckets=_LONG_EDGES,
    registry=REGISTRY,
)
TASK_WAIT = Histogram(
    "phoenix_task_wait_seconds",
    "From the time that a task was due to its start.",
    ["kind"],
    buckets=_LONG_EDGES,
    registry=REGISTRY,
)
TASKS_RUNNING = Gauge("phoenix_task_running", "Tasks that run now.", ["kind"], registry=REGISTRY)

# -- releases ----------------------------------------------------------------------------------------

ROLLOUTS = RolloutCollector()
REGISTRY.register(ROLLOUTS)
PASS_DURATION = Histogram(
    "phoenix_rollout_pass_duration_seconds",
    "One pass of the rollout controller over one rollout, in real time.",
    ["outcome"],
    buckets=EDGES,
    registry=REGISTRY,
)
RELEASES = Counter("phoenix_releases", "Releases that ended, by outcome.", ["outcome"], registry=REGISTRY)
ABORT_DURATION = Histogram(
    "phoenix_abort_duration_seconds",
    "One try to take the traffic from a revision, in real time.",
    ["component", "outcome"],
    buckets=EDGES,
    registry=REGISTRY,
)
VERDICTS = Counter("phoenix_verdicts", "Verdicts by what they say.", ["verdict"], registry=REGISTRY)
OBSERVATION_DURATION = Histogram(
    "phoenix_verdict_observation_seconds",
    "From the question for evidence to the verdict, in real time.",
    buckets=EDGES,
    registry=REGISTRY,
)
LEADER = Gauge(
    "phoenix_leader", "1 while this process is the one that does the work.", ["component"], registry=REGISTRY
)

# -- audit -------------------------------------------------------------------------------------------

AUDIT_RECORDS = Counter(
    "phoenix_audit_records",
    "Records for the audit log, by whether an append kept them.",
    ["outcome"],
    registry=REGISTRY,
)
ACCESS_LOST = Counter(
    "phoenix_access_log_lost", "Lines of the access log that the disk did not take.", registry=REGISTRY
)
AUDIT_APPEND = Histogram(
    "phoenix_audit_append_seconds",
    "Until a record is on the disk.",
    buckets=EDGES,
    registry=REGISTRY,
)


def method_of(method: str) -> str:
    """One of those that there are, or `other`: a client may write anything there."""
    return method if method in METHODS else "other"


def request_answered(method: str, route: str, code: int, seconds: float) -> None:
    """`route` is a template. The trace of the request, if one is kept, is shown beside the numbers."""
    method, shown = method_of(method), tracing.exemplar()
    REQUESTS.labels(method, route, str(code)).inc(exemplar=shown)
    DURATION.labels(method, route).observe(seconds, exemplar=shown)


@contextlib.contextmanager
def leading(component: str) -> Iterator[None]:
    """While it lasts, this process does the work of a component."""
    LEADER.labels(component).set(1)
    try:
        yield
    finally:
        LEADER.labels(component).set(0)


@contextlib.contextmanager
def appending(records: int) -> Iterator[None]:
    """Time one append to the audit log."""
    begun, outcome = time.perf_counter(), "failed"
    try:
        yield
        outcome = "kept"
    finally:
        AUDIT_RECORDS.labels(outcome).inc(records)
        AUDIT_APPEND.observe(time.perf_counter() - begun)


@contextlib.contextmanager
def aborting(component: str) -> Iterator[None]:
    """Time one try to take the traffic from a revision."""
    begun, outcome = time.perf_counter(), "failed"
    try:
        yield
        outcome = "ok"
    finally:
        ABORT_DURATION.labels(component, outcome).observe(time.perf_counter() - begun)


def page(accept: str = "") -> tuple[bytes, str]:
    """All metrics and their content type: OpenMetrics for whoever accepts it, else Prometheus's text."""
    if OPENMETRICS in accept:
        encoded: bytes = openmetrics.generate_latest(REGISTRY)  # type: ignore[no-untyped-call]
        return encoded, openmetrics.CONTENT_TYPE_LATEST
    return text.generate_latest(REGISTRY), text.CONTENT_TYPE_PLAIN_0_0_4
