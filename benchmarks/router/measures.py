"""The measurements. Each takes a running candidate and returns plain figures."""

import asyncio
import math
import re
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from benchmarks.router.backends import SLOW_SECONDS, Backend
from benchmarks.router.candidate import Candidate, Counted
from benchmarks.router.load import Answer, Connection, PacedLoad, burst, sequential
from benchmarks.router.processes import Child

Figures = dict[str, float | int | bool | None]

RATE = 600
CHANGES = 50
CHANGE_SPACING_SECONDS = 0.35
SPLIT_REQUESTS = 2000
SPLIT_PERCENT = 5
LATENCY_SECONDS = 1.0
THROUGHPUT_SECONDS = 2
THROUGHPUT_CONNECTIONS = 32
PATIENCE_SECONDS = 6.0


@dataclass(slots=True)
class Running:
    """A candidate with its process."""

    candidate: Candidate
    child: Child

    @property
    def port(self) -> int:
        return self.candidate.site.web

    async def set_weight(self, canary: int) -> None:
        self.candidate.write(canary)
        await self.candidate.announce(self.child)

    async def settle(self, canary: int) -> None:
        """Change the weight and wait until the router was seen to follow it.

        Through 0 or 100, because those are the weights that a handful of answers proves.
        """
        extreme = 100 if canary >= 50 else 0
        await self.set_weight(extreme)
        wanted = "canary" if extreme else "stable"

        async def follows() -> bool:
            return {answer.body for answer in await burst(self.port, 64, 4)} == {wanted}

        await until(follows)
        if canary != extreme:
            before = await self.candidate.counters()
            await self.set_weight(canary)
            other = "stable" if extreme else "canary"

            async def mixes() -> bool:
                return other in {answer.body for answer in await burst(self.port, 64, 4)}

            await until(mixes)
            await self._counted_since(before)

    async def _counted_since(self, before: dict[str, Counted]) -> None:
        """Wait until late counters have caught up, so that the next difference is clean."""
        last = before

        async def quiet() -> bool:
            nonlocal last
            now = await self.candidate.counters()
            same = {n: _complete(c) for n, c in now.items()} == {n: _complete(c) for n, c in last.items()}
            last = {n: Counted(c.requests, c.errors, dict(c.buckets)) for n, c in now.items()}
            return same

        await asyncio.sleep(0.6)
        await until(quiet)


def _complete(counted: Counted) -> tuple[int, int]:
    return counted.requests, counted.buckets.get(math.inf, 0)


async def until(condition: Callable[[], Awaitable[bool]], pause: float = 0.002) -> float | None:
    """Seconds until the condition held, or None when it did not within the patience."""
    began = time.perf_counter()
    while not await condition():
        if time.perf_counter() - began > PATIENCE_SECONDS:
            return None
        await asyncio.sleep(pause)
    return time.perf_counter() - began


def percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


async def start(candidate: Candidate) -> tuple[Running, float]:
    """Start a candidate; seconds until it gave the first answer of a variant."""
    candidate.write(SPLIT_PERCENT)
    began = time.perf_counter()
    running = Running(candidate, candidate.start())

    async def routes() -> bool:
        running.child.require_alive()
        connection = Connection(running.port)
        answer = await connection.get()
        connection.close()
        return answer.body in {"stable", "canary"}

    if await until(routes) is None:
        raise RuntimeError(f"{candidate.name} did not route a request")
    return running, time.perf_counter() - began


async def split(running: Running) -> Figures:
    """Share of the canary over a fixed number of requests, and what the router counted."""
    await running.settle(SPLIT_PERCENT)
    before = {n: _complete(c) for n, c in (await running.candidate.counters()).items()}
    answers = await burst(running.port, SPLIT_REQUESTS, 8)
    seen = {name: sum(answer.body == name for answer in answers) for name in ("stable", "canary")}
    done = time.perf_counter()

    async def agree(position: int) -> bool:
        now = await running.candidate.counters()
        return all(
            _complete(now[name])[position] - before.get(name, (0, 0))[position] == number
            for name, number in seen.items()
        )

    requests = await until(lambda: agree(0))
    buckets = await until(lambda: agree(1))
    return {
        "canary_percent": 100 * seen["canary"] / len(answers),
        "counters_agree_after_seconds": requests,
        "buckets_agree_after_seconds": None if buckets is None else time.perf_counter() - done,
    }


async def changes(running: Running, *, keep_alive: bool) -> Figures:
    """Flip all traffic between the variants under load: the hardest change there is."""
    await running.settle(0)
    began: list[tuple[float, str]] = []
    async with PacedLoad(running.port, RATE, keep_alive=keep_alive) as load:
        for number in range(CHANGES):
            await asyncio.sleep(CHANGE_SPACING_SECONDS)
            began.append((time.perf_counter(), "canary" if number % 2 else "stable"))
            await running.set_weight(0 if number % 2 else 100)
        await asyncio.sleep(CHANGE_SPACING_SECONDS)
    effects = []
    for (moment, old), (following, _) in zip(began, [*began[1:], (math.inf, "")], strict=True):
        within = (a for a in load.answers if moment < a.sent and a.received < following)
        late = [a.received for a in within if a.body == old]
        effects.append(max(late, default=moment) - moment)
    return {
        "requests": len(load.answers),
        "requests_per_second": len(load.answers) / load.seconds,
        "failed": sum(answer.failed for answer in load.answers),
        "resent_after_stale_connection": sum(answer.resent for answer in load.answers),
        "effect_median_seconds": statistics.median(effects),
        "effect_max_seconds": max(effects),
    }


async def latency(port: int) -> dict[str, float]:
    seconds = [answer.seconds for answer in await sequential(port, LATENCY_SECONDS)]
    return {"p50": percentile(seconds, 50), "p99": percentile(seconds, 99)}


async def throughput(port: int, wrk: str | None) -> float:
    """Requests per second from many kept-alive connections at once."""
    if wrk is None:
        began = time.perf_counter()
        answers = await burst(port, 6000, THROUGHPUT_CONNECTIONS)
        return len(answers) / (time.perf_counter() - began)
    command = ["-t1", f"-c{THROUGHPUT_CONNECTIONS}", f"-d{THROUGHPUT_SECONDS}"]
    process = await asyncio.create_subprocess_exec(
        wrk, *command, f"http://127.0.0.1:{port}/", stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    found = re.search(rb"Requests/sec:\s*([\d.]+)", output)
    if found is None or b"Non-2xx" in output or b"Socket errors" in output:
        raise RuntimeError(output.decode())
    return float(found[1])


async def unattended(running: Running) -> Figures:
    """Does a weight written by a process that tells nobody come into effect?"""
    await running.settle(0)
    running.candidate.write(100)

    async def follows() -> bool:
        return {answer.body for answer in await burst(running.port, 16, 2)} == {"canary"}

    try:
        async with asyncio.timeout(3):
            seconds = await until(follows)
    except TimeoutError:
        seconds = None
    return {"works": seconds is not None, "seconds": seconds}


async def backend_death(running: Running, canary: Backend) -> Figures:
    """Kill the canary without warning: first while it is idle between requests, then at work."""
    await running.settle(20)
    before = (await running.candidate.counters())["canary"].errors
    async with PacedLoad(running.port, RATE) as load:
        await asyncio.sleep(0.5)
        canary.kill()
        killed = time.perf_counter()
        await asyncio.sleep(2)
    after = [answer for answer in load.answers if answer.received > killed]
    await asyncio.sleep(0.6)
    counted = (await running.candidate.counters())["canary"].errors - before
    canary.start()

    async def back() -> bool:
        return "canary" in {answer.body for answer in await burst(running.port, 40, 2)}

    recovered = await until(back)
    await running.settle(50)
    slow = asyncio.create_task(burst(running.port, 40, 40, "/slow"))
    await asyncio.sleep(SLOW_SECONDS / 2)
    canary.kill()
    in_flight: list[Answer] = await slow
    canary.start()
    await until(back)
    return {
        "requests_after_kill": len(after),
        "failed_after_kill": sum(answer.failed for answer in after),
        "counted_as_canary_errors": counted,
        "back_in_rotation_seconds": recovered,
        "in_flight": len(in_flight),
        "in_flight_failed": sum(answer.failed for answer in in_flight),
    }
