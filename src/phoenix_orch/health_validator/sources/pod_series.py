"""What pods say of themselves, and the kubelet of them, out of raw samples of Prometheus. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from phoenix_orch.health_validator import answers
from phoenix_orch.health_validator.sources.exposition import (
    BUCKET,
    PATHS,
    PROBES,
    REQUESTS,
    START,
    Key,
    business_names,
    counted,
    edge,
    rest_of,
    timed,
    worse,
)
from phoenix_orch.health_validator.sources.processes import kernel_name
from phoenix_orch.health_validator.sources.prometheus_api import Series
from phoenix_orch.health_validator.sources.prometheus_poller import Family
from phoenix_orch.health_validator.sources.prometheus_samples import Counted
from phoenix_orch.health_validator.sources.source import Context

CPU = "container_cpu_usage_seconds_total"
MEMORY = "container_memory_working_set_bytes"
QUOTA, PERIOD = "container_spec_cpu_quota", "container_spec_cpu_period"
KERNEL = (CPU, MEMORY, QUOTA, PERIOD)
"""Of cAdvisor, which is a part of the kubelet."""
CORES = "machine_cpu_cores"
_MILLISECONDS = 1000


@dataclass(frozen=True, slots=True)
class PodLabels:
    """How this Prometheus names pods. Its `kubernetes_sd_configs` decide."""

    namespace: str = "namespace"
    pod: str = "pod"

    @property
    def family(self) -> Family:
        return Family(self.pod)

    @property
    def kernel(self) -> Family:
        """One series per container; those without a name sum up the pod."""
        return Family(self.pod, 'container!="",container!="POD"')


@dataclass(frozen=True, slots=True)
class Pods:
    """What was found of one rollout's pods."""

    counted: list[Counted] = field(default_factory=list)
    memory: dict[str, int] = field(default_factory=dict)
    """Working set in bytes by pod: what the kernel kills by."""
    values: dict[str, dict[str, float]] = field(default_factory=dict)
    """Plain values by pod and their name in the spec."""


def pattern(workloads: Iterable[str]) -> str:
    """Pods of these Deployments."""
    return "|".join(f"{re.escape(name)}-[a-z0-9]+-[a-z0-9]+" for name in workloads)


def names(context: Context, *, traffic: bool) -> list[str]:
    """Metrics that are wanted of the pods."""
    wanted = [*(REQUESTS + BUCKET if traffic else ())]
    wanted += [name for metric in context.business for name in business_names(metric)]
    wanted += [value.gauge for value in context.values]
    return [*dict.fromkeys(wanted), START] if wanted else []


def read_programs(
    context: Context, series: Sequence[Series], revisions: Mapping[str, str], pod_label: str
) -> Pods:
    """What the programs in the pods count. `revisions`: by name of the pod."""
    found = Pods()
    by_pod: dict[str, list[Series]] = {}
    for one in series:
        pod = one.labels.get(pod_label, "")
        if pod in revisions and one.points:
            by_pod.setdefault(pod, []).append(one)
    for pod, several in by_pod.items():
        there = {one.labels["__name__"] for one in several}
        requests = next((name for name in REQUESTS if name in there), REQUESTS[0])
        bucket = next((name for name in BUCKET if name in there), BUCKET[0])
        started = next((one.points[-1][1] for one in several if one.labels["__name__"] == START), None)
        for one in several:
            for key in _keys(context, one, revisions[pod], requests, bucket):
                points = tuple((at, counted(key, value)) for at, value in one.points)
                found.counted.append(Counted(pod, str(key), started, points))
            _take_value(context, one, found.values.setdefault(pod, {}))
    return found


def _keys(context: Context, one: Series, revision: str, requests: str, bucket: str) -> Iterable[Key]:
    name, labels = one.labels["__name__"], one.labels
    rest = rest_of(labels, leave_out=("le", "__name__"), also=name)
    if name in (requests, bucket) and not PROBES.isdisjoint(labels.get(path) for path in PATHS):
        return
    if name == requests:
        yield Key(revision, answers.kind(answers.status(labels)), "", rest)
    elif name == bucket:
        yield Key(revision, timed(labels), edge(labels), rest)
    for metric in context.business:
        if name in business_names(metric) and metric.labels.items() <= labels.items():
            yield Key(revision, "business", metric.name, rest)


def _take_value(context: Context, one: Series, found: dict[str, float]) -> None:
    number = one.points[-1][1]
    for value in context.values:
        fits = one.labels["__name__"] == value.gauge and value.labels.items() <= one.labels.items()
        if fits and math.isfinite(number):
            found[value.name] = worse(value, number, found.get(value.name))


def read_kernel(
    series: Sequence[Series],
    revisions: Mapping[str, str],
    started: Mapping[str, float | None],
    cores: Mapping[str, float],
    pod_label: str,
) -> Pods:
    """What the kubelet counts of the pods. `cores`: of the machine, by the `instance` of its kubelet.

    CPU time is told per core that the pod may use, so that 1 s in 1 s is all that it can have: its quota
    where every container has one, else the machine. Where neither is known there is no number.
    """
    found = Pods()
    by_pod: dict[str, dict[str, dict[str, Series]]] = {}
    for one in series:
        pod, container = one.labels.get(pod_label, ""), one.labels.get("container", "")
        if pod in revisions and one.points:
            by_pod.setdefault(pod, {}).setdefault(container, {})[one.labels["__name__"]] = one
    for pod, containers in by_pod.items():
        used = {name: there[CPU] for name, there in containers.items() if CPU in there}
        may_use = _cores(containers, cores)
        if used and may_use:
            newest = max(one.points[-1][0] for one in used.values())
            for name, one in used.items():
                # The kubelet reads containers one after another; for us they are of one moment.
                points = (*one.points[:-1], (newest, one.points[-1][1]))
                scaled = tuple((at, value * _MILLISECONDS / may_use) for at, value in points)
                key = str(Key(revisions[pod], "cpu", "", name))
                found.counted.append(Counted(kernel_name(pod), key, started.get(pod), scaled))
        held = [there[MEMORY].points[-1][1] for there in containers.values() if MEMORY in there]
        if held:
            found.memory[pod] = int(sum(held))
    return found


def _cores(containers: Mapping[str, Mapping[str, Series]], machine: Mapping[str, float]) -> float | None:
    quotas = [
        there[QUOTA].points[-1][1] / there[PERIOD].points[-1][1]
        for there in containers.values()
        if QUOTA in there and PERIOD in there and there[PERIOD].points[-1][1] > 0
    ]
    if quotas and len(quotas) == len(containers) and min(quotas) > 0:
        return sum(quotas)
    instances = {one.labels.get("instance", "") for there in containers.values() for one in there.values()}
    return next((machine[instance] for instance in instances if machine.get(instance, 0) > 0), None)
