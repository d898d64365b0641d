"""HTTP with the standard library: a command line is over before a larger HTTP library would be imported."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

JSON = "application/json"


class NobodyListens(Exception):
    """There is no socket, or nobody behind it."""


class NotAllowed(Exception):
    """The socket belongs to another user."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    """By their names in small letters."""


def ask(
    connection: http.client.HTTPConnection,
    method: str,
    target: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One request, one connection.

    Raises NobodyListens, NotAllowed, TimeoutError (no part of the answer within the connection's time-out),
    and ConnectionError when the other side goes away in between.
    """
    with closing(connection):
        answer = _begun(connection, method, target, body, {"Accept": JSON, **(headers or {})})
        try:
            content = answer.read()
        except http.client.HTTPException as error:
            raise ConnectionError(f"no answer in HTTP: {error}") from error
        return Answer(answer.status, content, _headers(answer))


def lines(
    connection: http.client.HTTPConnection, target: str, headers: Mapping[str, str]
) -> Iterator[Answer | bytes]:
    """A stream: the answer, whose body is empty where it is a stream, and then its lines as they come.

    Raises as `ask`.
    """
    with closing(connection):
        answer = _begun(connection, "GET", target, None, headers)
        try:
            if answer.status != http.client.OK:
                yield Answer(answer.status, answer.read(), _headers(answer))
                return
            yield Answer(answer.status, b"", _headers(answer))
            while line := answer.readline():
                yield line
        except http.client.HTTPException as error:
            raise ConnectionError(f"no answer in HTTP: {error}") from error


def _begun(
    connection: http.client.HTTPConnection,
    method: str,
    target: str,
    body: bytes | None,
    headers: Mapping[str, str],
) -> http.client.HTTPResponse:
    # Not `Connection: close`: a server that answers before it has read the body would reset the line.
    sent = {**headers, "Content-Type": JSON} if body is not None else headers
    try:
        connection.connect()
    except TimeoutError:
        raise
    except PermissionError as error:
        raise NotAllowed from error
    except ssl.SSLError as error:
        raise ConnectionError(f"no TLS: {error.reason}") from error
    except OSError as error:
        raise NobodyListens from error  # also a path that is too long for a socket
    try:
        connection.request(method, target, body, dict(sent))
        return connection.getresponse()
    except http.client.HTTPException as error:
        raise ConnectionError(f"no answer in HTTP: {error}") from error


def _headers(answer: http.client.HTTPResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in answer.getheaders()}


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("phoenix", timeout=timeout)
        self._path = path
        self._seconds = timeout

    def connect(self) -> None:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(self._seconds)
            connection.connect(str(self._path))
        except BaseException:
            connection.close()
            raise
        self.sock = connection
