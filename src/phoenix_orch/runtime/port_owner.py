"""Who listens on a TCP port of this machine, as far as the system tells us."""

from __future__ import annotations

import psutil


def listener_on(port: int) -> str:
    """`NAME (pid N)`; `another user's process` where that is hidden, or has left meanwhile."""
    for pid in psutil.pids():
        try:
            process = psutil.Process(pid)
            found = process.net_connections(kind="tcp")
            if any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in found):
                return f"{process.name()} (pid {pid})"
        except (psutil.Error, OSError):
            continue
    return "another user's process"
