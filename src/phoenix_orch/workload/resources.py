"""What instances use of the machine."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import psutil

from phoenix_orch.workload.workload import Instance


@dataclass(frozen=True, slots=True)
class Usage:
    """`cpu`: share of all cores since the last look, 0..1; None at the first. `memory`: resident bytes."""

    cpu: float | None
    memory: int


class ResourceSampler:
    """Keeps a handle of each process: a share of CPU needs two looks. Blocks for microseconds each."""

    def __init__(self) -> None:
        self._handles: dict[tuple[int, float], psutil.Process] = {}
        self._cores = os.cpu_count() or 1

    def sample(self, instances: Iterable[Instance]) -> dict[str, Usage]:
        """Use by instance name; instances without a living process are left out."""
        usage: dict[str, Usage] = {}
        handles: dict[tuple[int, float], psutil.Process] = {}
        for instance in instances:
            if instance.pid is None or instance.started is None:
                continue
            key = (instance.pid, instance.started)
            try:
                known = self._handles.get(key)
                process = known or psutil.Process(instance.pid)
                if not process.is_running() or abs(process.create_time() - instance.started) > 0.05:
                    continue
                share = process.cpu_percent() / 100 / self._cores
                usage[instance.name] = Usage(share if known else None, process.memory_info().rss)
            except psutil.Error:
                continue
            handles[key] = process
        self._handles = handles
        return usage
