"""What the process takes of its machine: the guide's resource metrics, read when somebody looks."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

LEAST_WINDOW = 1.0
"""Seconds over which CPU time is compared at least: two who look at the same moment see the same."""
LOOPBACK = "lo"


class ResourceCollector(Collector):
    """cpu_usage_percent and memory_usage_bytes of this process; disk and network of what it runs in."""

    def __init__(
        self,
        *,
        io_stat: Path | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`io_stat`: what the control group read and wrote; left out: where the kernel tells it."""
        self._process = psutil.Process()
        self._io_stat = io_stat or own_io_stat()
        self._monotonic = monotonic
        self._window = (monotonic(), self._cpu_seconds())
        self._percent = 0.0

    def describe(self) -> list[Metric]:
        return list(_families())

    def collect(self) -> Iterator[Metric]:
        cpu, memory, disk, network = _families()
        cpu.add_metric([], self._cpu_percent())
        memory.add_metric([], float(self._process.memory_info().rss))
        for scope, reads, writes in self._disk():
            disk.add_metric(["read", scope], reads)
            disk.add_metric(["write", scope], writes)
        for link, received, sent in _network():
            network.add_metric(["received", link], received)
            network.add_metric(["sent", link], sent)
        yield from (cpu, memory, disk, network)

    def _cpu_percent(self) -> float:
        now, used = self._monotonic(), self._cpu_seconds()
        before, used_before = self._window
        if now - before >= LEAST_WINDOW:
            self._percent = 100 * (used - used_before) / (now - before) / _cores()
            self._window = (now, used)
        return max(0.0, min(100.0, self._percent))

    def _cpu_seconds(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def _disk(self) -> Iterator[tuple[str, float, float]]:
        """Operations of the control group, which is a container or a unit of systemd, where they are counted,
        else of the whole machine. Nobody counts them by process: what /proc calls reads and writes of one are
        calls, also on pipes and sockets."""
        with contextlib.suppress(OSError, ValueError):
            reads, writes = operations(self._io_stat.read_text("ascii"))
            yield "cgroup", reads, writes
            return
        with contextlib.suppress(OSError, RuntimeError):
            if (found := psutil.disk_io_counters()) is not None:
                yield "machine", found.read_count, found.write_count


def own_io_stat(groups: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")) -> Path:
    """The file of this process's control group, version 2; it need not exist."""
    with contextlib.suppress(OSError):
        for line in groups.read_text("utf-8").splitlines():
            if line.startswith("0::/"):
                return mounted / line.removeprefix("0::/") / "io.stat"
    return mounted / "io.stat"


def operations(io_stat: str) -> tuple[int, int]:
    """Reads and writes of all devices, of a control group's `io.stat`. Raises ValueError."""
    fields = [field.partition("=") for line in io_stat.splitlines() for field in line.split()[1:]]
    if not fields:
        raise ValueError("io.stat names no device")
    return (
        sum(int(value) for name, _, value in fields if name == "rios"),
        sum(int(value) for name, _, value in fields if name == "wios"),
    )


def _network() -> Iterator[tuple[str, float, float]]:
    """Bytes by whether they left the machine, or in a pod the pod."""
    with contextlib.suppress(OSError):
        cards = psutil.net_io_counters(pernic=True)
        for link, names in (("loopback", {LOOPBACK} & cards.keys()), ("network", cards.keys() - {LOOPBACK})):
            yield (
                link,
                sum(cards[name].bytes_recv for name in names),
                sum(cards[name].bytes_sent for name in names),
            )


def _cores() -> int:
    """Those that the process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _families() -> tuple[GaugeMetricFamily, GaugeMetricFamily, CounterMetricFamily, CounterMetricFamily]:
    return (
        GaugeMetricFamily(
            "cpu_usage_percent",
            "Share of the cores that this process may use which it used since the last look, 0..100.",
        ),
        GaugeMetricFamily("memory_usage_bytes", "Resident memory of this process."),
        CounterMetricFamily(
            "disk_io_operations",
            "Operations on block devices, of this process's control group where it tells them, else of the"
            " machine.",
            labels=["direction", "scope"],
        ),
        CounterMetricFamily(
            "network_traffic_bytes",
            "Bytes on the loopback and on all other interfaces of this machine, or in a pod of the pod.",
            labels=["direction", "link"],
        ),
    )
