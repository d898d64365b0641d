"""Carries connections from the machine's loopback into a node's network namespace.

    nsenter --net=… python relay.py FOLDER ADDRESS:PORT…

It inherits one listening socket per target, from descriptor 3 on, in the order of the targets: they belong
to the machine's network, while what it opens itself belongs to the node's. FOLDER says whose it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import sys

FIRST = 3
_BLOCK = 65536


async def main(targets: list[str]) -> None:
    for number, target in enumerate(targets):
        host, _, port = target.rpartition(":")
        listener = socket.socket(fileno=FIRST + number)
        listener.setblocking(False)
        await asyncio.start_server(functools.partial(_relay, host, int(port)), sock=listener)
    await asyncio.Event().wait()


async def _relay(host: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        there_reader, there_writer = await asyncio.open_connection(host, port)
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
    asyncio.run(main(sys.argv[2:]))
