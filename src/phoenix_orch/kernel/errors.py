"""Errors that say what was found and what to do.

    PhoenixError
    ├── Invalid        bad input from a person: file, flag, name          exit 2
    │   ├── NotFound   a name that does not exist                         exit 2
    │   ├── BadState   a right command at the wrong moment                exit 2
    │   ├── Unauthenticated  nobody knows who asks                        exit 2
    │   └── Forbidden  who asks has not the right                         exit 2
    ├── Conflict       somebody else wrote first; read again and decide again
    │   └── Outdated     what was to be changed is no longer what it was seen to be
    ├── Latched        the revision was rolled back and only a person may retry it
    ├── Retryable      the other side is away for now; the same call may succeed later
    │   ├── Unavailable  Phoenix itself cannot be reached                 exit 3
    │   └── TooMany    asked more often than is allowed
    └── Terminal       it will not work however often it is tried         exit 1

Every error carries a stable `code` for programs, a `message` for people and a `remedy`: the next
thing to do. Adapters translate the errors of their libraries into these at their edge.
"""

from __future__ import annotations

from typing import ClassVar


class PhoenixError(Exception):
    """Root of every error Phoenix raises on purpose."""

    code: ClassVar[str] = "internal"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} ({self.remedy})" if self.remedy else self.message


class Invalid(PhoenixError):
    code = "invalid"
    exit_code = 2


class NotFound(Invalid):
    code = "not_found"


class BadState(Invalid):
    code = "bad_state"


class Unauthenticated(Invalid):
    code = "unauthenticated"


class Forbidden(Invalid):
    code = "forbidden"


class Conflict(PhoenixError):
    code = "conflict"


class Outdated(Conflict):
    code = "outdated"


class Latched(PhoenixError):
    code = "latched"
    exit_code = 2


class Retryable(PhoenixError):
    code = "retryable"


class Unavailable(Retryable):
    code = "unavailable"
    exit_code = 3


class TooMany(Retryable):
    code = "too_many_requests"

    def __init__(self, message: str, *, remedy: str = "", retry_after: float = 1.0) -> None:
        """`retry_after`: seconds until the same call may succeed."""
        super().__init__(message, remedy=remedy)
        self.retry_after = retry_after


class Terminal(PhoenixError):
    code = "terminal"
