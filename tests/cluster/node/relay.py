"""Carries connections from the machine's loopback into a node's network namespace.

    nsenter --net=… python relay.py FOLDER PORT:PORT_THERE…

It inherits the listening sockets of its ports: they belong to the machine's network, while what it opens
itself belongs to the node's. FOLDER says whose it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import sys
from pathlib import Path

_BLOCK = 65536


async def main(targets: list[str], listeners: dict[int, socket.socket]) -> None:
    for target in targets:
        port, _, there = target.partition(":")
        listener = listeners[int(port)]
        await asyncio.start_server(functools.partial(_relay, int(there)), sock=listener)
    await asyncio.Event().wait()


def _inherited() -> dict[int, socket.socket]:
    """The sockets that are open from the start, by port."""
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # no socket, or the folder that is being listed
            inherited = socket.socket(fileno=int(entry.name))
            inherited.setblocking(False)
            found[inherited.getsockname()[1]] = inherited
    return found


async def _relay(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        writer.transport.abort()
        return
    await asyncio.gather(_copy(reader, there_writer), _copy(there_reader, writer))
    writer.close()
    there_writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One direction. Its end is passed on as an end, an error as an error."""
    try:
        while data := await reader.read(_BLOCK):
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()
    except OSError:
        writer.transport.abort()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[2:], _inherited()))
