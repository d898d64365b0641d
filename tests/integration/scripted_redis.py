"""A server that speaks just enough of the replication protocol to be told how to misbehave."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from phoenix_orch.recovery.redis_address import RedisAddress

MARK = b"0123456789abcdef0123456789abcdef01234567"
REPLICATION = b"+FULLRESYNC " + b"a" * 40 + b" 1234\r\n"


@dataclass
class Script:
    """What it answers. `after_psync` is sent as it is, piece by piece."""

    hello: bytes = b"*4\r\n$6\r\nserver\r\n$6\r\nvalkey\r\n$7\r\nversion\r\n$5\r\n9.1.2\r\n"
    auth: bytes = b"+OK\r\n"
    replconf: Callable[[list[str]], bytes] = field(default=lambda _words: b"+OK\r\n")
    after_psync: list[bytes] = field(default_factory=list)
    stalls: bool = False
    """Keep the connection open after the last piece, and send nothing more."""
    heard: list[list[str]] = field(default_factory=list)


@contextlib.contextmanager
def scripted(script: Script) -> Iterator[RedisAddress]:
    with socket.create_server(("127.0.0.1", 0)) as listening, contextlib.ExitStack() as open_ones:
        done = threading.Event()

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection = open_ones.enter_context(listening.accept()[0])
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    with contextlib.suppress(OSError):
                        _talk(connection, script)
                    if not script.stalls:
                        connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield RedisAddress(port=listening.getsockname()[1])
        done.set()
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def _talk(connection: socket.socket, script: Script) -> None:
    with connection.makefile("rb") as lines:
        while words := _command(lines):
            script.heard.append(words)
            match words[0]:
                case "AUTH":
                    connection.sendall(script.auth)
                case "HELLO":
                    connection.sendall(script.hello)
                case "REPLCONF":
                    connection.sendall(script.replconf(words[1:]))
                case "PSYNC":
                    for piece in script.after_psync:
                        connection.sendall(piece)
                    return


def _command(lines: object) -> list[str]:
    first = lines.readline()
    if not first:
        return []
    words = []
    for _ in range(int(first[1:])):
        size = int(lines.readline()[1:])
        words.append(lines.read(size + 2)[:-2].decode())
    return words
