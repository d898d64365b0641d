"""What a `FaultyApiServer` does to a request, and to which."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

_WRITES = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
WRITES = frozenset(_WRITES.values())


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as RBAC would name it."""

    verb: str
    """get, list, watch, create, update, patch, delete."""
    resource: str
    """The plural."""
    namespace: str
    name: str
    subresource: str = ""
    target: str = ""
    """The path and the query, as sent."""
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """The API server is not asked; this is the answer."""

    code: int
    reason: str = ""
    message: str = "made up by a test"
    retry_after: int | None = None

    def body(self) -> bytes:
        return json.dumps(self.status()).encode()

    def status(self) -> dict[str, object]:
        details = {} if self.retry_after is None else {"retryAfterSeconds": self.retry_after}
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "reason": self.reason,
            "message": self.message,
            "code": self.code,
            "details": details,
        }


@dataclass(frozen=True, slots=True)
class Reset:
    """The connection is reset; `done`: after the API server has done what was asked."""

    done: bool = False


@dataclass(frozen=True, slots=True)
class Hang:
    """No answer comes for so many seconds; then the connection is reset."""

    done: bool = False
    seconds: float = 3600.0


@dataclass(frozen=True, slots=True)
class Slow:
    """The request reaches the API server so many seconds late. Then all is well."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Half:
    """Half of the answer comes, then the connection ends."""


@dataclass(frozen=True, slots=True)
class Meanwhile:
    """Something else happens first; then the request reaches the API server."""

    happens: Callable[[], Awaitable[None]]


class Breaks(StrEnum):
    """How a watch breaks."""

    EOF = "eof"
    RESET = "reset"
    HALF_LINE = "half a line"
    GARBAGE = "a line that is no JSON"
    SILENCE = "silence"
    GONE = "410 in the stream"
    ERROR = "500 in the stream"
    THROTTLED = "429 in the stream"


@dataclass(frozen=True, slots=True)
class WatchBreaks:
    """A watch breaks after so many events were passed on."""

    how: Breaks
    events: int = 0


@dataclass(frozen=True, slots=True)
class Swallow:
    """So many events of a watch are not passed on: what no API server should ever do."""

    events: int = 1


Fault: TypeAlias = Answer | Reset | Hang | Slow | Half | Meanwhile | WatchBreaks | Swallow


def always(_: Asked) -> bool:
    return True


@dataclass(slots=True)
class Rule:
    """A fault for the requests that `matches`; so many times, after `skip` of them went well."""

    fault: Fault
    matches: Callable[[Asked], bool] = always
    times: int = 1
    skip: int = 0
    chance: Callable[[], bool] = field(default=lambda: True)
    hits: int = 0
    held: int = 0
    """Requests that have begun to hang; with `done`, of which the API server has done what was asked."""

    def strikes(self, asked: Asked) -> bool:
        """Count this request; whether it is hit."""
        if self.hits >= self.times or not self.matches(asked):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if not self.chance():
            return False
        self.hits += 1
        return True


def asked_for(method: str, target: str, body: bytes = b"") -> Asked:
    """What a request of the API asks for."""
    path, _, query = target.partition("?")
    parts = path.strip("/").split("/")
    parts = parts[2:] if parts[0] == "api" else parts[3:]  # /api/v1, /apis/group/version
    namespace = ""
    if len(parts) > 2 and parts[0] == "namespaces":
        namespace, parts = parts[1], parts[2:]
    resource, name, subresource = [*parts, "", "", ""][:3]
    verb = _WRITES.get(method, "get" if name else "list")
    if "watch=true" in query.split("&"):
        verb = "watch"
    return Asked(verb, resource, namespace, name, subresource, target, body)
