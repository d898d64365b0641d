"""Pages of metrics that are far too long, or as long as they may be: the event loop goes on all the same."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import pytest
from tests.integration.test_evidence_sources import Program, Watcher

from phoenix_orch.health_validator.observation import Quality
from phoenix_orch.health_validator.sources.process_metrics import ProcessMetrics
from phoenix_orch.health_validator.sources.scrape import Scraper

MIB = 1024 * 1024
TICK = 0.002
PATIENT = 0.3
"""Seconds the loop may be late on a busy machine. Reading a long page at one go takes a second and more."""
TRIES = 3
"""Others use the machine, too: the least disturbed of so many is what counts."""


@dataclass
class Lag:
    last: float
    worst: float = 0.0

    def look(self) -> None:
        now = time.perf_counter()
        self.worst, self.last = max(self.worst, now - self.last - TICK), now


@contextmanager
def lag() -> Iterator[Lag]:
    """How late the event loop is at worst, in seconds."""
    found = Lag(time.perf_counter())

    async def look() -> None:
        while True:
            await asyncio.sleep(TICK)
            found.look()

    task = asyncio.get_running_loop().create_task(look())
    try:
        yield found
    finally:
        found.look()  # what blocked until now has not let the task run
        task.cancel()


@asynccontextmanager
async def watched() -> AsyncIterator[tuple[Program, Program, Watcher]]:
    async with (
        Scraper(timeout=5.0) as scraper,
        Program("old").serving() as old,
        Program("new").serving() as new,
    ):
        yield old, new, Watcher(ProcessMetrics(scraper), (old, new))


def series(count: int, each: int = 1, name: str = "requests_total") -> str:
    """So many series of one family; the page of a program that makes a label of every user."""
    return "".join(f'{name}{{code="200",user="{number:07d}"}} {each}\n' for number in range(count))


async def test_a_page_of_a_quarter_of_a_million_series_stops_nobody_and_says_what_to_do() -> None:
    page = "# TYPE requests_total counter\n" + series(250_000)
    worst = []
    async with watched() as (old, new, watcher):
        old.page = new.page = page
        await watcher.observe()
        for _ in range(TRIES):
            with lag() as found:
                seen = await watcher.observe()
            worst.append(found.worst)
    assert min(worst) < PATIENT, worst
    assert seen.canary.quality is Quality.GAP
    note = next(note for note in seen.notes if str(new.port) in note)
    assert "lines of interest, most of requests_total" in note
    assert "fewer" in note
    assert len(watcher.memory.model_dump_json()) < 10_000


async def test_a_long_page_of_families_that_nobody_asked_for_is_refused_by_its_size() -> None:
    async with watched() as (_, new, watcher):
        new.page = series(60_000, name="other_things_total")
        assert len(new.page) > 2 * MIB
        with lag() as found:
            seen = await watcher.observe()
    assert found.worst < 1
    note = next(note for note in seen.notes if str(new.port) in note)
    assert "2 MiB" in note
    assert "fewer" in note


async def test_the_longest_page_that_is_read_stops_nobody() -> None:
    """Two MiB, with as many series of the wanted families as are allowed."""
    worst = []
    async with watched() as (old, new, watcher):
        other = series(40_000, name="other_things_total")
        for number in range(TRIES + 1):
            for program in (old, new):
                program.page = series(2_500, each=10 + 2 * number) + other
                assert 1.9 * MIB < len(program.page) < 2 * MIB
            with lag() as found:
                seen = await watcher.observe()
            worst.append(found.worst)
    assert min(worst[1:]) < PATIENT, worst
    assert (seen.canary.quality, seen.canary.requests) == (Quality.OK, 5_000)
    assert len(watcher.memory.model_dump_json()) < MIB / 2


async def test_families_that_nobody_asked_for_are_not_kept() -> None:
    async with watched() as (_, new, watcher):
        new.page = series(10) + series(500, name="requests_total_of_something") + series(500, name="other")
        await watcher.observe()
        kept = watcher.memory.tracker.processes["web-new-0"].values
    assert len(kept) == 10


async def test_labels_without_end_are_kept_as_digests() -> None:
    async with watched() as (_, new, watcher):
        long = "x" * 1000
        page = (
            'requests_total{{code="200",path="/{0}a"}} {1}\nrequests_total{{code="200",path="/{0}b"}} {1}\n'
        )
        new.page = page.format(long, 5)
        await watcher.observe()
        new.page = page.format(long, 9)
        seen = await watcher.observe()
        kept = watcher.memory.tracker.processes["web-new-0"].values
    assert seen.canary.requests == 8
    assert len(kept) == 2
    assert max(map(len, kept)) < 100


async def test_a_line_without_end_is_refused() -> None:
    async with watched() as (_, new, watcher):
        new.page = 'requests_total{code="200",path="/' + "x" * MIB + '"} 5\n'
        seen = await watcher.observe()
    assert seen.canary.quality is Quality.GAP
    assert any("bytes long" in note for note in seen.notes)


@pytest.mark.parametrize("size", [MIB, 64 * MIB])
async def test_a_page_that_grows_when_it_is_unpacked_is_not_unpacked(size: int) -> None:
    body = gzip.compress(b"#" * size, 9)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"accept-encoding: identity" in head.lower()
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, watched() as (_, new, watcher):
        new.port = port
        seen = await watcher.observe()
    assert any("compressed" in note for note in seen.notes)
