"""Evidence from Prometheus: the router's counters per variant, or those of the pods themselves.

One question for each kind of program serves all rollouts (`prometheus_poller`). Counters are read as
counters, and a number that Prometheus has stopped to renew is no number (`prometheus_samples`).
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from phoenix_orch.health_validator.counters import TrackerState
from phoenix_orch.health_validator.sources import pod_series, prometheus_routed
from phoenix_orch.health_validator.sources.assemble import Snapshot, assemble
from phoenix_orch.health_validator.sources.exposition import split
from phoenix_orch.health_validator.sources.pod_series import PodLabels
from phoenix_orch.health_validator.sources.processes import Processes
from phoenix_orch.health_validator.sources.prometheus_api import Found, Series
from phoenix_orch.health_validator.sources.prometheus_poller import Family, Poller
from phoenix_orch.health_validator.sources.prometheus_samples import Counted, Scrapes, scrapes
from phoenix_orch.health_validator.sources.router_series import RouterSeries, Target, Variant
from phoenix_orch.health_validator.sources.source import Context, Reading, SourceMemory
from phoenix_orch.kernel.errors import PhoenixError

INSTANCE = Family("instance")
_REST = "the rest of the answer"
"""Has counted what nobody knows of, where an answer is not whole."""

Locate = Callable[[str], Awaitable[Target]]


@dataclass(slots=True)
class Part:
    """What one question has brought for one rollout."""

    counted: list[Counted] = field(default_factory=list)
    found: list[Found] = field(default_factory=list)
    memory: Mapping[str, int] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    fault: str = ""


class PrometheusMetrics:
    """EvidenceSource on Prometheus."""

    def __init__(
        self,
        poller: Poller,
        locate: Locate,
        router: RouterSeries | None,
        *,
        labels: PodLabels | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`locate` says what a route is in the cluster. `router`: whose counters are read; None: those of
        the pods themselves."""
        self._poller = poller
        self._locate = locate
        self._router = router
        self._labels = labels or PodLabels()
        self._wall = wall

    async def observe(self, context: Context, memory: SourceMemory) -> Reading:
        try:
            target = await self._locate(context.route)
            requests, programs, kernel = await asyncio.gather(
                self._requests(context, target),
                self._programs(context, target, memory.tracker),
                self._kernel(context, target),
            )
        except PhoenixError as error:
            nobody = Snapshot(self._wall(), 1, {}, (), Processes(), faults=(error.message,))
            return assemble(context, memory, nobody)
        parts = (requests, programs, kernel)
        found = [answer for part in parts for answer in part.found]
        endpoint = found[0].endpoint if found else memory.endpoint
        taken = scrapes(
            [one for part in parts for one in part.counted],
            memory.tracker,
            memory.read,
            now=max((answer.now for answer in found), default=self._wall()),
            switched=endpoint != memory.endpoint,
        )
        reading = assemble(context, memory, self._snapshot(context, parts, taken))
        kept = reading.memory.model_copy(update={"read": taken.read, "endpoint": endpoint})
        return Reading(reading.observation, kept)

    # -- questions -----------------------------------------------------------------------------------

    async def _requests(self, context: Context, target: Target) -> Part:
        """What the router counted of the route."""
        router = self._router
        if router is None:
            return Part()
        names = (router.requests, router.bucket)
        routed = await prometheus_routed.read(self._poller, router, target, names)
        if not routed.series:
            return Part(found=[*routed.found], fault=f"Prometheus has no {router.requests} of {target.route}")
        found = prometheus_routed.counters(routed, router, target, _revisions(context))
        return Part(found, [*routed.found])

    async def _programs(self, context: Context, target: Target, tracker: TrackerState) -> Part:
        """What the programs in the pods tell, as far as somebody wants to know it."""
        names = pod_series.names(context, traffic=self._router is None)
        if not names or not target.workloads:
            return Part()
        answer = await self._poller.read(self._labels.family, names, pod_series.pattern(target.workloads))
        pods = _pods(context) | (_remembered(tracker) if self._router is None else {})
        series = self._theirs(answer.of(pods.__contains__), target)
        read = pod_series.read_programs(context, series, pods, self._labels.pod)
        return Part(read.counted, [answer.found], values=read.values)

    async def _kernel(self, context: Context, target: Target) -> Part:
        """CPU and memory of the pods. Without a kubelet's metrics a verdict is one without resources."""
        pods = _pods(context)
        if not pods or not target.workloads:
            return Part()
        try:
            answer = await self._poller.read(
                self._labels.kernel, pod_series.KERNEL, pod_series.pattern(target.workloads)
            )
            series = self._theirs(answer.of(pods.__contains__), target)
            kubelets = sorted({one.labels.get("instance", "") for one in series})
            cores = await self._cores(kubelets) if kubelets else {}
        except PhoenixError as error:
            return Part(fault=f"no resources: {error.message}")
        started = {
            one.name: one.started for revision in context.revisions for one in context.instances(revision)
        }
        read = pod_series.read_kernel(series, pods, started, cores, self._labels.pod)
        return Part(read.counted, [answer.found], memory=read.memory)

    async def _cores(self, kubelets: Sequence[str]) -> dict[str, float]:
        """Of the machine, by the kubelet's `instance`."""
        pattern = "|".join(map(re.escape, kubelets))
        answer = await self._poller.read(INSTANCE, (pod_series.CORES,), pattern)
        known = set(kubelets)
        return {
            one.labels.get("instance", ""): one.points[-1][1]
            for one in answer.of(known.__contains__)
            if one.points
        }

    def _theirs(self, series: Iterable[Series], target: Target) -> list[Series]:
        """Pods of other namespaces may have the same names."""
        return [one for one in series if one.labels.get(self._labels.namespace) == target.namespace]

    # -- one snapshot --------------------------------------------------------------------------------

    def _snapshot(self, context: Context, parts: Sequence[Part], taken: Scrapes) -> Snapshot:
        requests, programs, kernel = parts
        there = {sample.process for sample in taken.samples}
        routed = {one.process for one in requests.counted}
        warned = [text for part in parts for answer in part.found for text in answer.warnings]
        if self._router is None:
            traffic = {
                revision: (
                    *(one.name for one in context.instances(revision)),
                    *_gone(context, taken, revision),
                )
                for revision in context.revisions
            }
        else:
            traffic = dict.fromkeys(context.revisions, tuple(sorted(routed)))
        if warned:
            traffic = {revision: (*names, _REST) for revision, names in traffic.items()}
        own = {one.process for one in (*programs.counted, *kernel.counted)}
        return Snapshot(
            wall=self._wall(),
            cores=1,  # CPU is counted per core that a pod may use
            traffic=traffic,
            samples=tuple(sample for sample in taken.samples if sample.process not in own),
            processes=Processes(
                samples=[sample for sample in taken.samples if sample.process in own],
                answered=there
                & {name for revision in context.revisions for name in _names(context, revision)},
                memory=dict(kernel.memory),
                values={pod: dict(values) for pod, values in programs.values.items()},
            ),
            faults=(*(part.fault for part in parts if part.fault), *dict.fromkeys(warned)),
        )


def _revisions(context: Context) -> dict[Variant, str]:
    """What each variant of the router means."""
    if context.stable is None:
        return {"stable": context.revision}
    return {"canary": context.revision, "stable": context.stable}


def _names(context: Context, revision: str) -> list[str]:
    return [instance.name for instance in context.instances(revision)]


def _pods(context: Context) -> dict[str, str]:
    """Revisions by pod, of those that serve."""
    return {name: revision for revision in context.revisions for name in _names(context, revision)}


def _remembered(tracker: TrackerState) -> dict[str, str]:
    """Revisions by pod, of those that have counted before: what they counted last is scraped, and they
    may be gone."""
    return {
        name: split(next(iter(known.values))).revision
        for name, known in tracker.processes.items()
        if known.values
    }


def _gone(context: Context, taken: Scrapes, revision: str) -> list[str]:
    """Pods that serve no more and have left something that was not counted yet."""
    serving = _pods(context)
    return [
        sample.process
        for sample in taken.samples
        if sample.process not in serving
        and sample.process in taken.read
        and sample.series
        and split(sample.series[0][0]).revision == revision
        and split(sample.series[0][0]).kind != "cpu"
    ]
