"""The API under load: `python -m benchmarks.api_load`. About three minutes.

Many viewers follow the stream of a release, 2,000 rollouts are there, and reads come at their times whether
earlier ones were answered or not. A read counts from the moment it was due, so that waiting counts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from benchmarks.api_load.served import RELEASED
from benchmarks.conditions import conditions, end_in_order, write

RESULT = Path(__file__).parents[1] / "results" / "api_load.json"
BAR_READS = 0.1
"""Seconds within which 99 of 100 reads are answered."""

IDLE = 3.0
"""Seconds after which a connection is not used again: the server closes it after five."""

READS = (
    (40, f"/api/v1/rollouts/{RELEASED}"),
    (10, "/api/v1/rollouts/{any}"),
    (15, "/api/v1/rollouts?limit=100&cursor={cursor}"),
    (10, f"/api/v1/rollouts/{RELEASED}/events"),
    (10, f"/api/v1/rollouts/{RELEASED}/observations?limit=60"),
    (10, "/api/v1/rollouts/{any}/history"),
    (5, "/api/v1/rollouts/{any}/revisions"),
)
"""What is read, and how often in a hundred."""


class Reader:
    """One kept connection."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._used = float("-inf")

    async def get(self, path: str) -> int:
        """The status of a read whose whole answer has come."""
        if time.monotonic() - self._used > IDLE:
            await self._open()
        try:
            return await self._get(path)
        except (ConnectionError, asyncio.IncompleteReadError):
            await self._open()  # the server has closed it in this moment
            return await self._get(path)

    async def _open(self) -> None:
        self._reader, self._writer = await asyncio.open_unix_connection(str(self._socket), limit=1 << 24)

    async def _get(self, path: str) -> int:
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: phoenix\r\n\r\n".encode())
        head = await self._reader.readuntil(b"\r\n\r\n")
        fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
        await self._reader.readexactly(int(fields[b"content-length"]))
        self._used = time.monotonic()
        return int(head.split(b" ", 2)[1])


class Countdown:
    """Sets an event when so many were there."""

    def __init__(self, left: int, event: asyncio.Event) -> None:
        self._left, self._event = left, event

    def one(self) -> None:
        self._left -= 1
        if not self._left:
            self._event.set()


async def view(
    socket: Path, delays: list[float], counts: dict[str, int], ready: asyncio.Event, here: Countdown
) -> None:
    """Follow the stream of the release, and note how old each verdict is when it comes."""
    path = f"/api/v1/rollouts/{RELEASED}/stream"
    reader, writer = await asyncio.open_unix_connection(str(socket), limit=1 << 22)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: phoenix\r\n\r\n".encode())
    event, seen = "", False
    while line := await reader.readline():
        if line.startswith(b"event: "):
            event = line[7:].strip().decode()
            if not seen:
                seen = True
                here.one()
            counts[event] = counts.get(event, 0) + 1
        elif line.startswith(b"data: ") and event == "verdict" and ready.is_set():
            at = datetime.fromisoformat(json.loads(line[6:])["at"])
            delays.append((datetime.now(UTC) - at).total_seconds())


async def load(socket: Path, pid: int, given: argparse.Namespace) -> dict[str, Any]:
    delays: list[float] = []
    counts: dict[str, int] = {}
    took: dict[str, list[float]] = {}
    bad: list[str] = []
    ready, everybody = asyncio.Event(), asyncio.Event()
    idle: asyncio.LifoQueue[Reader] = asyncio.LifoQueue()
    for _ in range(64):
        idle.put_nowait(Reader(socket))
    chosen = random.Random(7)
    words = [path for share, path in READS for _ in range(share)]

    async def read(due: float, path: str) -> None:
        name = f"service-{chosen.randrange(given.rollouts):04}"
        asked = path.replace("{any}", name).replace("{cursor}", _cursor(name))
        reader = await idle.get()
        try:
            status = await reader.get(asked)
        finally:
            idle.put_nowait(reader)
        if status != 200:
            bad.append(f"{status} {asked}")
        took.setdefault(path, []).append(time.monotonic() - due)

    async with asyncio.TaskGroup() as viewers:
        first = Countdown(given.viewers, everybody)
        following = [
            viewers.create_task(view(socket, delays, counts, ready, first)) for _ in range(given.viewers)
        ]
        for at in range(0, given.rollouts, 100):  # every page was read once
            await read(0.0, f"/api/v1/rollouts?limit=100&cursor={_cursor(f'service-{at:04}')}")
        took.clear()
        await everybody.wait()
        ready.set()
        begun, spent = time.monotonic(), cpu(pid)
        async with asyncio.TaskGroup() as reads:
            for number in range(int(given.rate * given.seconds)):
                due = begun + number / given.rate
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                reads.create_task(read(due, chosen.choice(words)))
        used = (cpu(pid) - spent) / (time.monotonic() - begun)
        for one in following:
            one.cancel()
    every = sorted(took_one for found in took.values() for took_one in found)
    return {
        "reads": len(every),
        "notOk": bad[:10],
        "readSeconds": quantiles(every),
        "byPath": {path: quantiles(sorted(found)) for path, found in sorted(took.items())},
        "serverCores": round(used, 2),
        "verdicts": len(delays),
        "verdictSeconds": quantiles(sorted(delays)),
        "messages": dict(sorted(counts.items())),
    }


def cpu(pid: int) -> float:
    """Seconds of processor that a process has used."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def _cursor(name: str) -> str:
    from phoenix_orch.api.pages import encode  # noqa: PLC0415 - a second of imports

    return encode(name)


def quantiles(found: list[float]) -> dict[str, float]:
    if not found:
        return {}
    at = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    last = len(found) - 1
    shown = {name: found[min(last, int(share * len(found)))] for name, share in at.items()}
    return {name: round(seconds, 4) for name, seconds in {**shown, "max": found[last]}.items()}


async def measure(given: argparse.Namespace, directory: Path) -> dict[str, Any]:
    words = [str(directory), "--rollouts", str(given.rollouts), "--interval", str(given.interval)]
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.api_load.served", *words, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert server.stdout is not None
        async with asyncio.timeout(300):
            while b"ready" not in await server.stdout.readline():
                pass
        return await load(directory / "phoenix.sock", server.pid, given)
    finally:
        server.terminate()
        await server.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--viewers", type=int, default=200)
    parser.add_argument("--rollouts", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=200.0, help="reads in a second")
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between two verdicts")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--json", type=Path, default=RESULT)
    given = parser.parse_args()
    end_in_order()
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    told = conditions()
    with tempfile.TemporaryDirectory(prefix="phx-") as directory:
        found = asyncio.run(measure(given, Path(directory)))
    held = {
        "reads": found["readSeconds"]["p99"] <= BAR_READS and not found["notOk"],
        "verdicts": found["verdictSeconds"]["p99"] <= given.interval,
    }
    setting = {name: getattr(given, name) for name in ("viewers", "rollouts", "rate", "interval", "seconds")}
    write(given.json, {"conditions": told, "setting": setting, **found, "bars": held})
    print(json.dumps({**found, "bars": held}, indent=1))
    return 0 if all(held.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
