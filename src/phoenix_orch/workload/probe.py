"""Ask an instance's health path.

A look costs a socket and two turns of the event loop, not a client: a hundred instances are asked every
second. What is wrong with Phoenix itself is never held against an instance: a look that ran out of time
while the event loop was late, or for want of descriptors, says nothing.
"""

from __future__ import annotations

import asyncio
import errno
import re
import socket
from enum import Enum
from functools import lru_cache
from types import TracebackType
from typing import Self
from urllib.parse import quote

from phoenix_orch.runtime.loop_beat import LoopBeat
from phoenix_orch.workload.spec import Health

HOST = "127.0.0.1"
AT_ONCE = 64
"""Looks under way at the same moment; the others wait for their turn, which does not count as theirs."""
_LONGEST_HEAD = 16 * 1024
_STATUS = re.compile(rb"HTTP/1\.[0-9] ([1-5][0-9][0-9])(?: |\r?$)")
_OURS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL}
"""Errors of whoever asks, not of whoever is asked."""


class Look(Enum):
    """What one look found."""

    GOOD = "2xx in time"
    BAD = "anything else, or nothing in time"
    UNKNOWN = "nothing can be said: Phoenix itself was late, or out of sockets"


class HealthProbe:
    """GET on loopback. A new connection each time: an instance is ready when it accepts, too."""

    def __init__(self, *, at_once: int = AT_ONCE) -> None:
        self._beat = LoopBeat()
        self._turns = asyncio.Semaphore(at_once)

    def __enter__(self) -> Self:
        self._beat.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._beat.__exit__(kind, error, trace)

    async def look(self, port: int, health: Health) -> Look:
        """One look. The body is not read; every socket is closed when this returns, or is cancelled."""
        async with self._turns:
            limit, lost = health.timeout.total_seconds(), self._beat.lost
            try:
                async with asyncio.timeout(limit):
                    status = await _status(port, _request(port, health.path))
            except TimeoutError:
                return Look.UNKNOWN if self._beat.took(lost, limit) else Look.BAD
            except OSError as error:
                return Look.UNKNOWN if error.errno in _OURS else Look.BAD
        return Look.GOOD if 200 <= status < 300 else Look.BAD


async def _status(port: int, request: bytes) -> int:
    """The final status of the answer; 0 for what is no answer in HTTP."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
        connection.setblocking(False)
        await loop.sock_connect(connection, (HOST, port))
        await loop.sock_sendall(connection, request)
        said = b""
        while len(said) < _LONGEST_HEAD:
            line, whole, _ = said.partition(b"\n")
            if whole:
                status = _STATUS.match(line)
                if status is None or int(status[1]) >= 200:
                    return int(status[1]) if status is not None else 0
                _, whole, rest = said.partition(b"\r\n\r\n")
                if whole:
                    said = rest  # an answer on the way, such as 103; another one follows
                    continue
            piece = await loop.sock_recv(connection, 4096)
            if not piece:
                break
            said += piece
    return 0


@lru_cache(maxsize=1024)
def _request(port: int, path: str) -> bytes:
    target = quote(path.partition("#")[0], safe="/?&=%+:;,@!$'()*~[]|", errors="replace")
    head = (f"GET {target} HTTP/1.1", f"Host: {HOST}:{port}", "User-Agent: phoenix-health")
    return "\r\n".join([*head, "Accept: */*", "Connection: close", "", ""]).encode("ascii")
