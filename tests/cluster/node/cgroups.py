"""The cgroup below which a node keeps its pods, in every hierarchy of the machine."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from phoenix_orch.kernel.errors import Terminal

_PATIENCE = 60.0


def unified() -> bool:
    """All controllers are in one hierarchy: cgroup v2."""
    return Path("/sys/fs/cgroup/cgroup.controllers").exists()


def make(name: str) -> None:
    for hierarchy in _hierarchies():
        if unified():  # kubelet wants them all below its root, and would let them in itself at the top
            controllers = (hierarchy / "cgroup.controllers").read_text().split()
            (hierarchy / "cgroup.subtree_control").write_text(" ".join(f"+{one}" for one in controllers))
        group = hierarchy / name
        group.mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):  # version 1 begins with none, and lets nobody in
            if not unified() and (group / setting).exists():
                (group / setting).write_text((hierarchy / setting).read_text())


def remove(name: str) -> None:
    """Remove it with all below it. Idempotent. Raises Terminal when processes stay in it."""
    for hierarchy in _hierarchies():
        give_up = time.monotonic() + _PATIENCE
        while not _removed(hierarchy / name):
            if time.monotonic() > give_up:
                raise Terminal(f"the cgroup {hierarchy / name} cannot be removed: something still runs in it")
            time.sleep(0.05)


def _removed(group: Path) -> bool:
    for folder, _, _ in os.walk(group, topdown=False):
        with contextlib.suppress(OSError):
            Path(folder).rmdir()
    return not group.exists()


def _hierarchies() -> list[Path]:
    """Where version 1 is in use, there may be one of version 2 besides."""
    fields = [line.split() for line in Path("/proc/self/mounts").read_text("utf-8").splitlines()]
    return [Path(place) for _, place, kind, *_ in fields if kind in ("cgroup", "cgroup2")]
