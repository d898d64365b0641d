"""One of each component works, the others stand by and take over, also after kill -9."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from phoenix_orch.orchestrator.standby import is_led, leading

pytestmark = pytest.mark.anyio
PROGRAM = """
import asyncio, sys
from pathlib import Path
from phoenix_orch.orchestrator.standby import leading

async def main():
    async with leading(Path(sys.argv[1]), "worker"):
        print("LEADS", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@asynccontextmanager
async def worker(lock: Path) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-uc",
        PROGRAM,
        str(lock),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def says(process: Process, word: str) -> None:
    assert process.stdout is not None
    async with asyncio.timeout(30):
        while word not in (line := (await process.stdout.readline()).decode()):
            assert line, "the worker ended"


async def test_the_second_waits_and_takes_over_after_kill_9(tmp_path: Path) -> None:
    lock = tmp_path / "worker.lock"
    async with worker(lock) as first:
        await says(first, "LEADS")
        async with worker(lock) as second:
            await says(second, "standing by")
            assert is_led(lock)
            first.send_signal(signal.SIGKILL)
            await says(second, "LEADS")
            assert await first.wait() == -signal.SIGKILL
    assert not is_led(lock)


async def test_the_lock_is_free_when_the_body_fails(tmp_path: Path) -> None:
    lock = tmp_path / "worker.lock"

    async def fails() -> None:
        async with leading(lock, "worker"):
            assert is_led(lock)
            raise ValueError("failed")

    with pytest.raises(ValueError, match="failed"):
        await fails()
    assert not is_led(lock)
    async with asyncio.timeout(5), leading(lock, "worker"):
        pass


async def test_waiting_can_be_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phoenix_orch.orchestrator.standby.RETRY_PAUSE", 0.001)
    lock = tmp_path / "worker.lock"
    led = 0

    async def second() -> None:
        nonlocal led
        async with leading(lock, "worker"):
            led += 1

    async with leading(lock, "worker"):
        waiting = asyncio.create_task(second())
        for _ in range(20):
            await asyncio.sleep(0.001)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert led == 0
    await second()
    assert led == 1
