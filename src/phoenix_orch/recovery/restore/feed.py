"""The side of a primary in a replication: a server takes a dump from us as if we were its primary.

    replica                          we
    PING                             +PONG
    AUTH … (where it has masterauth) +OK
    REPLCONF listening-port 6379 …   +OK
    PSYNC ? -1                       +FULLRESYNC <id> 0 · newlines · $EOF:<mark> dump <mark>

The mark is sent when all of the dump is known to be whole, and without it the replica keeps what it has: a
damaged copy, a lost store and our own death all leave its data as it was.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import ssl
import time
from collections.abc import Callable, Iterator

from phoenix_orch.kernel.errors import Retryable, Terminal
from phoenix_orch.recovery.rdb_header import LONGEST, RdbHeader, parse
from phoenix_orch.recovery.restore.feed_tls import Certificate, spoken

_LONGEST_COMMAND = 64 * 1024
_HANDSHAKE = 15.0
"""Seconds that a replica may take for it."""
_STALL = 60.0
"""Seconds in which a replica has to take a piece; it writes to its disk or to its memory."""

Accept = Callable[[RdbHeader], None]
"""Raises PhoenixError when the dump must not be sent to this replica."""


class Feed:
    """A replica that waits for its data. `write` the dump, then `commit`.

    Closed without that, it keeps the data that it has.
    """

    def __init__(self, connection: socket.socket, accept: Accept) -> None:
        self._connection = connection
        self._accept = accept
        self._mark = secrets.token_hex(20).encode()
        self._held = b""
        """The beginning, until the header is known."""
        self.header: RdbHeader | None = None
        self.sent = 0
        """Bytes of the dump."""
        self.committed = False

    def write(self, data: bytes, /) -> int:
        """Send the next bytes of the dump. Raises PhoenixError."""
        if self.header is None:
            self._held += data
            self.header = parse(self._held)
            if self.header is None and len(self._held) < LONGEST:
                return len(data)
            if self.header is None:
                raise Terminal("this is no dump: it has no end of its header", remedy="choose another copy")
            self._accept(self.header)
            self._put(b"$EOF:" + self._mark + b"\r\n")
            data, self._held = self._held, b""
            self._send(data)
            return len(data)
        self._send(data)
        return len(data)

    def commit(self) -> None:
        """Say that the dump is whole; from here on the replica takes it as its data."""
        if self.header is None:
            raise Terminal("this is no dump: it ends within its header", remedy="choose another copy")
        self.committed = True  # before: when sending fails nobody knows whether it came
        self._put(self._mark)

    def gone(self) -> bool:
        """Whether the replica has closed. What it says meanwhile is read and forgotten."""
        self._connection.setblocking(False)
        try:
            while data := self._connection.recv(65536):
                del data
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError):
            return False
        except OSError:
            return True
        finally:
            self._connection.settimeout(_STALL)
        return True

    def _send(self, data: bytes) -> None:
        self._put(data)
        self.sent += len(data)

    def _put(self, data: bytes) -> None:
        try:
            self._connection.sendall(data)
        except OSError as error:
            reason = "does not take it" if isinstance(error, TimeoutError) else "closed the connection"
            raise Retryable(
                f"the target {reason} after {self.sent:,} bytes",
                remedy="see its log: its disk may be full, its memory, or its repl-timeout too short",
            ) from None


class Door:
    """A port on which one replica is awaited."""

    def __init__(self, listening: socket.socket, host: str, certificate: Certificate | None = None) -> None:
        self._listening = listening
        self._certificate = certificate
        self.host = host
        """What the replica is told to connect to."""
        self.port: int = listening.getsockname()[1]

    @contextlib.contextmanager
    def replica(
        self,
        *,
        peer: str,
        announces: int | None,
        accept: Accept,
        within: float,
        secured: bool | None = None,
    ) -> Iterator[Feed]:
        """Wait for the replica. Others that call are turned away: it would be our data that they got.

        `peer`: its address; empty for any. `announces`: the port that it says it listens on. `within`:
        seconds. `secured`: whether it speaks TLS; None: not known.
        Raises Retryable when it does not come, Terminal at once when it comes and does not trust us.
        """
        give_up = time.monotonic() + within
        turned_away = ""
        while (left := give_up - time.monotonic()) > 0:
            self._listening.settimeout(left)
            try:
                connection, address = self._listening.accept()
            except OSError:
                break
            with contextlib.ExitStack() as stack:
                stack.enter_context(connection)
                if peer and not _same(address[0], peer):
                    turned_away = f"; {address[0]} came and was turned away, {peer} is awaited"
                    continue
                try:
                    connection = spoken(connection, self._certificate, secured, _HANDSHAKE)
                    stack.enter_context(connection)
                    said = _handshake(connection)
                except (OSError, ValueError) as error:
                    turned_away = f"; one came that did not speak as a replica ({error})"
                    continue
                if announces is not None and said not in (None, announces):
                    turned_away = f"; one came that listens on {said}, not on {announces}"
                    continue
                connection.settimeout(_STALL)
                yield Feed(connection, accept)
                return
        raise Retryable(
            f"the target has not come to {self.host}:{self.port} for its data{turned_away}",
            remedy="it has to reach this machine: see firewalls and NetworkPolicies, and name an address "
            "that it can reach (--listen HOST:PORT)",
        )


@contextlib.contextmanager
def door(
    host: str, port: int = 0, *, bind: str = "", certificate: Certificate | None = None
) -> Iterator[Door]:
    """Listen. `host`: by which the replica reaches us; `bind`: where to listen, if not there; `certificate`:
    shown to one that speaks TLS."""
    family = socket.AF_INET6 if ":" in (bind or host) else socket.AF_INET
    try:
        listening = socket.create_server((bind or host, port), family=family, backlog=5)
    except OSError as error:
        raise Terminal(
            f"nothing can listen on {bind or host}:{port}: {(error.strerror or str(error)).lower()}",
            remedy="choose another address of this machine (--listen HOST:PORT)",
        ) from None
    with listening:
        yield Door(listening, host, certificate)


def _same(one: str, other: str) -> bool:
    return one.removeprefix("::ffff:") == other.removeprefix("::ffff:")


def _handshake(connection: socket.socket) -> int | None:
    """Answer until the data is asked for; the port that it listens on. Raises OSError or ValueError."""
    give_up = time.monotonic() + _HANDSHAKE
    announced: int | None = None
    said = _Commands(connection, give_up)
    while time.monotonic() < give_up:
        words = said.next()
        name = words[0].upper()
        if name == "PING":
            connection.sendall(b"+PONG\r\n")
        elif name == "REPLCONF":
            options = {words[n].lower(): words[n + 1] for n in range(1, len(words) - 1, 2)}
            if options.get("listening-port", "").isdecimal():
                announced = int(options["listening-port"])
            connection.sendall(b"+OK\r\n")
        elif name == "AUTH":
            connection.sendall(b"+OK\r\n")
        elif name == "PSYNC":
            connection.sendall(b"+FULLRESYNC %s 0\r\n" % secrets.token_hex(20).encode())
            return announced
        else:
            connection.sendall(b"-ERR unknown command\r\n")
    raise ValueError("it did not ask for data in time")


class _Commands:
    """What the other side says, command by command: arrays of RESP, or words in a line."""

    def __init__(self, connection: socket.socket, give_up: float) -> None:
        """`give_up`: until when it may say it, by the monotonic clock; however it dawdles."""
        self._connection = connection
        self._give_up = give_up
        self._ahead = b""

    def next(self) -> list[str]:
        while not (line := self._line()):
            pass
        if not line.startswith(b"*"):
            return line.decode("ascii", "replace").split() or [""]
        count = int(line[1:])
        if not 0 < count <= 64:
            raise ValueError("a command of no words")
        return [self._word() for _ in range(count)]

    def _line(self) -> bytes:
        while b"\n" not in self._ahead:
            self._fill()
        line, _, self._ahead = self._ahead.partition(b"\n")
        return line.removesuffix(b"\r")

    def _word(self) -> str:
        size = int(self._line().removeprefix(b"$"))
        if not 0 <= size <= _LONGEST_COMMAND:
            raise ValueError("a word that is too long")
        while len(self._ahead) < size + 2:
            self._fill()
        word, self._ahead = self._ahead[:size], self._ahead[size + 2 :]
        return word.decode("utf-8", "replace")

    def _fill(self) -> None:
        left = self._give_up - time.monotonic()
        if left <= 0:
            raise ValueError("it did not ask for data in time")
        self._connection.settimeout(left)
        data = self._connection.recv(65536)
        if not data or len(self._ahead) > _LONGEST_COMMAND:
            raise ValueError("it closed, or says too much")
        self._ahead += data
