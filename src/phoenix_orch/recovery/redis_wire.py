"""One connection to a Redis or Valkey server on the level of its bytes: TLS, login, replies of RESP2.

redis-py gives no access to the stream of a replication, so this is for that alone; whoever only asks
commands uses redis-py. Blocking; every wait ends after `silence` seconds without a byte.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from types import TracebackType
from typing import Self

from phoenix_orch.kernel.errors import PhoenixError, Retryable
from phoenix_orch.recovery.redis_address import RedisAddress, RedisTls
from phoenix_orch.recovery.redis_errors import refused, unreachable

CONNECT_TIMEOUT = 5.0
"""Seconds."""
SILENCE = 60.0
"""Seconds without a byte after which a server counts as gone: `repl-timeout` of Redis."""
_LONGEST_LINE = 64 * 1024
_LARGEST_BULK = 1024 * 1024
_DEEPEST = 8
_LARGEST_ANSWER = 8 * 1024 * 1024
"""Bytes of a whole answer: thousands of nodes of a cluster."""

Reply = str | int | list["Reply"] | None


class RefusedError(Exception):
    """The server answered with an error; `args[0]` is its text without the `-`."""


def encoded(*words: str) -> bytes:
    """A command as it goes over the wire."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        data = word.encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
    return b"".join(parts)


class RedisWire:
    """An open connection. Use it in `with`; errors are Phoenix's."""

    def __init__(
        self, address: RedisAddress, *, connect_timeout: float = CONNECT_TIMEOUT, silence: float = SILENCE
    ) -> None:
        """Connect. Raises Retryable, or Terminal where TLS is refused."""
        self.address = address
        self._ahead = b""
        """Received and not asked for yet."""
        self._received = 0
        """Bytes of the present answer."""
        try:
            self._socket = _connected(address, connect_timeout)
            self._socket.settimeout(silence)
        except (OSError, ValueError) as error:
            raise unreachable(address, error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Idempotent. A read in another thread ends with an error."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Raises Retryable."""
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise unreachable(self.address, error) from None

    def receive(self, size: int) -> bytes:
        """At least one byte and at most `size`; `b""` when the other side closed. Raises OSError."""
        if self._ahead:
            data, self._ahead = self._ahead[:size], self._ahead[size:]
            return data
        return self._socket.recv(size)

    def line(self) -> str:
        """The next line without its end; empty for a bare newline. Raises Retryable at the end."""
        while (end := self._ahead.find(b"\n")) < 0:
            if len(self._ahead) > _LONGEST_LINE:
                raise self._no_redis()
            self._fill()
        found, self._ahead = self._ahead[:end], self._ahead[end + 1 :]
        return found.removesuffix(b"\r").decode("utf-8", "replace")

    def login(self) -> None:
        """Send the password, if there is one. Raises Terminal where it is refused."""
        address = self.address
        if not address.password:
            return
        words = (address.username, address.password) if address.username else (address.password,)
        try:
            self.ask("AUTH", *words)
        except RefusedError as error:
            raise refused(address, "AUTH", str(error)) from None

    def ask(self, *words: str) -> Reply:
        """The answer to one command. Raises RefusedError where it is an error, Retryable where none comes."""
        self.send(encoded(*words))
        self._received = 0
        return self._reply(0)

    def demand(self, *words: str) -> Reply:
        """As `ask`, with a refusal in Phoenix's words."""
        try:
            return self.ask(*words)
        except RefusedError as error:
            raise refused(self.address, " ".join(words[:2]), str(error)) from None

    def _reply(self, depth: int) -> Reply:
        line = self.line()
        while not line:  # a server that makes us wait shows so that it lives
            line = self.line()
        if self._received > _LARGEST_ANSWER:
            raise self._no_redis()
        kind, rest = line[0], line[1:]
        try:
            match kind:
                case "+":
                    return rest
                case "-":
                    raise RefusedError(rest)
                case ":":
                    return int(rest)
                case "$":
                    return self._bulk(int(rest))
                case "*" if depth < _DEEPEST:
                    count = int(rest)
                    return None if count < 0 else [self._reply(depth + 1) for _ in range(count)]
        except ValueError:
            pass
        raise self._no_redis()

    def _bulk(self, size: int) -> str | None:
        if size < 0:
            return None
        if size > _LARGEST_BULK:
            raise self._no_redis()
        while len(self._ahead) < size + 2:
            self._fill()
        data, self._ahead = self._ahead[:size], self._ahead[size + 2 :]
        return data.decode("utf-8", "replace")

    def _fill(self) -> None:
        try:
            data = self._socket.recv(65536)
        except OSError as error:
            raise unreachable(self.address, error) from None
        if not data:
            raise Retryable(
                f"{self.address} closed the connection without an answer",
                remedy="see its log; a server that speaks TLS closes on who does not, and one in protected "
                "mode on other machines",
            )
        self._ahead += data
        self._received += len(data)

    def _no_redis(self) -> PhoenixError:
        return Retryable(
            f"what answers at {self.address} does not speak as Redis does",
            remedy="look at host and port; where the server speaks TLS, set tls",
        )


def _connected(address: RedisAddress, timeout: float) -> socket.socket:
    if address.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(timeout)
            connection.connect(address.socket)
        except BaseException:
            connection.close()
            raise
        return connection
    connection = socket.create_connection((address.host, address.port), timeout=timeout)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if address.tls is None:
            return connection
        return _secured(connection, address.tls, address.host)
    except BaseException:
        connection.close()
        raise


def _secured(connection: socket.socket, tls: RedisTls, host: str) -> socket.socket:
    context = ssl.create_default_context(cafile=tls.ca_file)
    if tls.cert_file is not None:
        context.load_cert_chain(tls.cert_file, tls.key_file)
    return context.wrap_socket(connection, server_hostname=host)
