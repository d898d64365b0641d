"""The reference of metrics, from the registry itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from prometheus_client import Metric

from phoenix_orch.observability import metrics

PATH = "docs/reference/metrics.md"

INTRODUCTION = """Phoenix shows Prometheus what it does: in OpenMetrics with trace ids as exemplars to whoever
accepts it, else in Prometheus's text format.

| where | address | who may read it |
|---|---|---|
| `phoenix up`, `phoenix serve orchestrator` | `GET /metrics` of the API | who may read the API |
| each process in a cluster | `/metrics` at `--metrics`: port 8082 | whom the NetworkPolicy lets in |

The pods of `k8s/base` and of the chart are annotated `prometheus.io/scrape` and `prometheus.io/port`; for the
Prometheus operator there is `k8s/monitoring`. Series of single rollouts come from the process that drives or
judges them, and go with the rollout; at most 1,000 rollouts have some. Routes are templates, never addresses.
"""

_GUIDE = (
    ("`requests_total`, `request_duration_seconds`", "the same"),
    ("`cpu_usage_percent`, `memory_usage_bytes`", "the same"),
    ("`error_rate`", "a recording rule over `requests_total`"),
    ("`task_success_rate`", "a recording rule over `tasks_total`"),
    ("`disk_io_operations`", "a recording rule over `disk_io_operations_total`: counters end in `_total`"),
    ("`network_traffic`", "a recording rule over `network_traffic_bytes_total`: units are in the name"),
)
_RULES = """The rules are in `k8s/monitoring/recording-rules.yaml`, also those that the guide's alerts use:
`job:error_rate:5m`, `job:request_duration_seconds:p95`. 0.1, 0.2 and 2 seconds, which the guide judges
latency by, are edges of the histogram: whether they are kept is counted, and not interpolated."""


class Described(NamedTuple):
    name: str
    kind: str
    labels: tuple[str, ...]
    about: str


def page(generated: str) -> str:
    """`generated`: what a generated page begins with."""
    parts = ["# Metrics", generated, INTRODUCTION.rstrip(), "## The guide's names", _guide(), _RULES]
    parts += ["## All", _table()]
    return "\n\n".join(parts) + "\n"


def _guide() -> str:
    return "| guide | here |\n|---|---|\n" + "\n".join(f"| {names} | {here} |" for names, here in _GUIDE)


def _table() -> str:
    rows = [
        f"| `{one.name}` | {one.kind} | {', '.join(f'`{label}`' for label in one.labels)} | {one.about} |"
        for one in described()
    ]
    rows.append("| `process_*` | | | What every program shows: CPU, memory, open files, start. |")
    return "| metric | type | labels | |\n|---|---|---|---|\n" + "\n".join(rows)


def described() -> Iterator[Described]:
    """All but process_*, in the order in which they are shown."""
    for collector in metrics.REGISTRY._collector_to_names:  # noqa: SLF001 - there is no other way to all of them
        describe: Callable[[], Iterable[Metric]] = getattr(collector, "describe", list)
        for one in describe():
            name = f"{one.name}_total" if one.type == "counter" else one.name
            # An instrument knows its labels itself, a family that a collector makes knows its own.
            knows = collector if hasattr(collector, "_labelnames") else one
            labels: Iterable[str] = getattr(knows, "_labelnames", ())
            yield Described(name, one.type, tuple(labels), one.documentation)
