"""A log that cannot be written stops nothing."""

from __future__ import annotations

import subprocess
import sys


def test_a_log_on_a_full_disk_and_a_closed_pipe_raise_nothing() -> None:
    code = (
        "import structlog; from phoenix_orch.runtime.logs import configure_logs; configure_logs();"
        "log = structlog.get_logger('x'); [log.warning('line') for n in range(2000)]; print('alive')"
    )
    with open("/dev/full", "w", encoding="utf-8") as full:  # noqa: PTH123 - a device
        done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=full, check=False)
    assert done.stdout == b"alive\n"
