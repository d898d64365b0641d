"""Problem documents as the errors they were made from."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from phoenix_orch.kernel.errors import (
    BadState,
    Conflict,
    Forbidden,
    Invalid,
    Latched,
    NotFound,
    Outdated,
    PhoenixError,
    Retryable,
    Terminal,
    TooMany,
    Unauthenticated,
    Unavailable,
)

NOT_FOUND, NOT_ALLOWED, UNPROCESSABLE = 404, 405, 422
NO_SUCH_ADDRESS = "No such address"
"""Title of what is answered for an address that is none, and not for a name that nobody has."""
_BY_CODE: dict[str, type[PhoenixError]] = {
    kind.code: kind
    for kind in (
        PhoenixError,
        Invalid,
        NotFound,
        BadState,
        Conflict,
        Outdated,
        Unauthenticated,
        Forbidden,
        TooMany,
        Latched,
        Retryable,
        Unavailable,
        Terminal,
    )
} | {"config": Invalid, "needs_second_person": BadState}


def raise_problem(status: int, body: bytes) -> NoReturn:
    """Raise the error that a problem document describes; Terminal for an answer that is none."""
    document = _document(body)
    if document is None:
        raise Terminal(
            f"the socket answered with status {status} and no problem document",
            remedy="something that is not Phoenix, or another version of it, serves there",
        )
    kind = _BY_CODE.get(str(document.get("code")), PhoenixError)
    raise kind(str(document["detail"]), remedy=str(document.get("remedy", "")))


def unknown_there(status: int, body: bytes) -> bool:
    """The answer may mean that who serves does not know what was asked: an address, a method, a field."""
    document = _document(body)
    if document is None:
        return True
    if status == NOT_FOUND:
        return document.get("title") == NO_SUCH_ADDRESS
    return status in (NOT_ALLOWED, UNPROCESSABLE)


def _document(body: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(body)
    except ValueError:
        return None
    return document if isinstance(document, dict) and "detail" in document else None
