"""HTTP over a unix socket with the standard library: a command line is over before a larger HTTP library
would be imported."""

from __future__ import annotations

import http.client
import socket
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path


class NobodyListens(Exception):
    """There is no socket, or nobody behind it."""


class NotAllowed(Exception):
    """The socket belongs to another user."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes


def ask(path: Path, method: str, target: str, body: bytes | None, timeout: float) -> Answer:
    """One request, one connection.

    Raises NobodyListens, NotAllowed, TimeoutError (no part of the answer for `timeout` seconds), and
    ConnectionError when the other side goes away in between.
    """
    # Not `Connection: close`: a server that answers before it has read the body would reset the line.
    headers = {"Accept": "application/json"}
    if body is not None:
        headers["Content-Type"] = "application/json"
    with closing(_UnixConnection(path, timeout)) as connection:
        try:
            connection.request(method, target, body, headers)
            answer = connection.getresponse()
            return Answer(answer.status, answer.read())
        except http.client.HTTPException as error:
            raise ConnectionError(f"no answer in HTTP: {error}") from error


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("phoenix", timeout=timeout)
        self._path = path
        self._seconds = timeout

    def connect(self) -> None:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(self._seconds)
            connection.connect(str(self._path))
        except BaseException as error:
            connection.close()
            if isinstance(error, PermissionError):
                raise NotAllowed from error
            if isinstance(error, OSError) and not isinstance(error, TimeoutError):
                raise NobodyListens from error  # also a path that is too long for a socket
            raise
        self.sock = connection
