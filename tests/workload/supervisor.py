"""A process that supervises a data directory, and kills itself with SIGKILL where a test says so.

    supervisor.py DATA_DIR WANTED [FUNCTION before|after NTH]

WANTED is JSON: instances by version. FUNCTION is one that changes the world: start, write or
signal_group; the process dies at its NTH call.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.workload.kit import SERVICE, settings, shop

from phoenix_orch.workload import processes, state_file
from phoenix_orch.workload.process import ProcessWorkload

WHERE = {"start": processes, "signal_group": processes, "write": state_file}


def die_at(function: str, when: str, nth: int) -> None:
    module, calls = WHERE[function], 0
    original = getattr(module, function)

    def deadly(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if when == "before" and calls == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        answer = original(*arguments)
        if when == "after" and calls == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    setattr(module, function, deadly)


async def supervise(data_dir: Path, wanted: dict[str, int]) -> None:
    workload = ProcessWorkload(data_dir, settings=settings())
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(workload.run())
        await workload.declare(SERVICE, shop())
        for version, count in wanted.items():
            await workload.scale(SERVICE, shop(version=version).template(), count)
        while True:
            await workload.release(SERVICE, frozenset())
            await asyncio.sleep(0.02)


if __name__ == "__main__":
    if len(sys.argv) > 3:
        die_at(sys.argv[3], sys.argv[4], int(sys.argv[5]))
    asyncio.run(supervise(Path(sys.argv[1]), json.loads(sys.argv[2])))
