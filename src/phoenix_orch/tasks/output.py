"""What a program writes, on its way to a task's log, however much it is and however fast it comes.

Reading never waits for the log: a program is not slowed down by it. What is written faster than it can be
kept pushes out what is older, as the log itself would, and a line says how much that was.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Sequence

from phoenix_orch.tasks.context import TaskContext

MOST_LINES = 10_000
"""Lines that wait to be kept: as many as the log has."""
MOST_BYTES = 4 << 20
"""Bytes of those lines."""
LONGEST = 16 * 1024
"""Bytes after which a line without an end is taken for one."""
AT_ONCE = 64 * 1024
"""Bytes that are kept with one call, one longer line excepted."""
LINES_AT_ONCE = 500
PACE = 0.05
"""Seconds between two calls at least, so that what comes together is kept together."""
_CHUNK = 64 * 1024


class Tail:
    """The newest lines that were written and are not kept yet. Pure."""

    def __init__(self) -> None:
        self._rest = b""
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._left_out = 0

    def add(self, chunk: bytes) -> None:
        *lines, rest = (self._rest + chunk).split(b"\n")
        if len(rest) > LONGEST:
            lines, rest = [*lines, rest], b""
        self._rest = rest
        self._lines += lines
        self._bytes += sum(map(len, lines))
        while len(self._lines) > MOST_LINES or self._bytes > MOST_BYTES:
            self._bytes -= len(self._lines.popleft())
            self._left_out += 1

    def end(self) -> None:
        """Nothing follows: what has no end of line is the last one."""
        if self._rest:
            self.add(b"\n")

    def take(self) -> list[str]:
        """Lines to be kept now; none while there are none."""
        taken: list[bytes] = []
        size = 0
        while self._lines and len(taken) < LINES_AT_ONCE and (not taken or size < AT_ONCE):
            taken.append(self._lines.popleft())
            size += len(taken[-1])
        self._bytes -= size
        told = [line.decode(errors="replace").rstrip("\r") for line in taken]
        if self._left_out:
            told.insert(0, f"{self._left_out:,} lines are left out: they came faster than they can be kept")
            self._left_out = 0
        return told


class Output:
    """The reading end of a program's output, from `open` until `close`; give `writing` to the program."""

    def __init__(self, context: TaskContext, reading: int, writing: int) -> None:
        self._context = context
        self._pipe = os.fdopen(reading, "rb", 0)
        self.writing = writing
        self._tail = Tail()
        self._news = asyncio.Event()
        self.read: asyncio.Task[None] = asyncio.create_task(self._read())
        """Done when nobody has the other end any more."""
        self._kept = asyncio.create_task(self._keep())

    @classmethod
    def open(cls, context: TaskContext) -> Output:
        return cls(context, *os.pipe())

    def given(self) -> None:
        """The program has its end now, or will never have it."""
        os.close(self.writing)

    async def close(self, within: float) -> None:
        """Stop reading; what was read is kept within this time (seconds)."""
        self.read.cancel()
        await asyncio.wait({self.read})
        self._pipe.close()
        await asyncio.wait({self._kept}, timeout=within)
        self._kept.cancel()
        await asyncio.wait({self._kept})

    async def _read(self) -> None:
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), self._pipe
        )
        try:
            while chunk := await reader.read(_CHUNK):
                self._tail.add(chunk)
                self._news.set()
        finally:
            transport.close()
            self._tail.end()
            self._news.set()

    async def _keep(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while lines := self._tail.take():
                await self._log(lines)
            if self.read.done():
                return

    async def _log(self, lines: Sequence[str]) -> None:
        """Keep them, and rest as long as that took: half of one processor is enough for what nobody reads."""
        began = time.monotonic()
        await self._context.log(*lines)
        await asyncio.sleep(max(PACE, time.monotonic() - began))
