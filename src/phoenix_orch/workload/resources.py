"""What instances use of the machine, with everything they started in their session."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass

import psutil

from phoenix_orch.workload.processes import SAME_START
from phoenix_orch.workload.workload import Instance


@dataclass(frozen=True, slots=True)
class Usage:
    """`cpu`: share of all cores since the last look, 0..1; None at the first. `memory`: resident bytes.

    Pages that several processes of one instance share are counted once for each of them.
    """

    cpu: float | None
    memory: int


@dataclass(slots=True)
class _Look:
    """Seconds of CPU that each process of one session has used so far, by (pid, start)."""

    used: dict[tuple[int, float], float]
    memory: int


class ResourceSampler:
    """Remembers the last look: a share of CPU needs two. Works in any process, from a WorkloadState.

    Blocks for about a microsecond for each process of the machine and 0.1 ms for each of an instance.
    """

    def __init__(self) -> None:
        self._last: dict[tuple[int, float], _Look] = {}
        self._at = 0.0
        self._cores = os.cpu_count() or 1

    def sample(self, instances: Iterable[Instance]) -> dict[str, Usage]:
        """Use by instance name; instances without a living process are left out."""
        now, sessions = time.monotonic(), _sessions()
        usage: dict[str, Usage] = {}
        looks: dict[tuple[int, float], _Look] = {}
        for instance in instances:
            if instance.pid is None or instance.started is None:
                continue
            key = (instance.pid, instance.started)
            look = _look(key, sessions.get(instance.pid, []))
            if look is None:
                continue
            looks[key] = look
            before = self._last.get(key)
            cpu = self._share(before, look, now - self._at) if before is not None else None
            usage[instance.name] = Usage(cpu, look.memory)
        self._last, self._at = looks, now
        return usage

    def _share(self, before: _Look, look: _Look, seconds: float) -> float | None:
        if seconds <= 0:
            return None
        used = sum(used - before.used.get(process, 0.0) for process, used in look.used.items())
        return min(1.0, max(0.0, used / seconds / self._cores))


def _sessions() -> dict[int, list[int]]:
    """Processes by the leader of their session."""
    found: dict[int, list[int]] = {}
    for pid in psutil.pids():
        try:
            found.setdefault(os.getsid(pid), []).append(pid)
        except (ProcessLookupError, PermissionError):
            continue
    return found


def _look(leader: tuple[int, float], members: Iterable[int]) -> _Look | None:
    """None when the leader has ended."""
    used: dict[tuple[int, float], float] = {}
    memory, alive = 0, False
    for pid in members:
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                started, times = process.create_time(), process.cpu_times()
                memory += process.memory_info().rss
        except psutil.Error:
            continue
        used[pid, started] = times.user + times.system
        alive = alive or (pid == leader[0] and abs(started - leader[1]) <= SAME_START)
    return _Look(used, memory) if alive else None
