"""Errors as `application/problem+json` (RFC 9457), one status and one code for each kind.

`code` and `status` are for programs, `detail` says what was found, `remedy` what to do about it.
The client turns the document into the same error again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from phoenix_orch.kernel.config import did_you_mean, field_path
from phoenix_orch.kernel.errors import (
    BadState,
    Conflict,
    Invalid,
    Latched,
    NotFound,
    PhoenixError,
    Retryable,
    Terminal,
)

CONTENT_TYPE = "application/problem+json"

_KINDS: tuple[tuple[type[PhoenixError], int, str], ...] = (
    (NotFound, 404, "No such name"),
    (BadState, 409, "Not possible in this state"),
    (Invalid, 422, "Not valid"),
    (Conflict, 409, "Changed by somebody else in between"),
    (Latched, 409, "Rolled back and latched"),
    (Retryable, 503, "Not available just now"),
    (Terminal, 500, "Cannot work"),
    (PhoenixError, 500, "Error"),
)

_log = structlog.get_logger("phoenix.api")


def document(
    status: int, code: str, title: str, detail: str, remedy: str = "", **more: object
) -> JSONResponse:
    body = {
        "type": f"urn:phoenix-orch:problem:{code}",
        "title": title,
        "status": status,
        "code": code,
        "detail": detail,
        "remedy": remedy,
        **more,
    }
    return JSONResponse(body, status_code=status, media_type=CONTENT_TYPE)


def install(app: FastAPI) -> None:
    """Answer every error of `app` as a problem document."""
    app.add_exception_handler(PhoenixError, _phoenix_error)
    app.add_exception_handler(RequestValidationError, _request_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected)


async def _phoenix_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, PhoenixError)
    for kind, status, title in _KINDS:
        if isinstance(error, kind):
            return document(status, error.code, title, error.message, error.remedy)
    raise AssertionError(error)


async def _request_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    faults = [_fault(details) for details in error.errors()]
    detail = "; ".join(
        f"{fault['field']}: {fault['message']}" if fault["field"] else fault["message"] for fault in faults
    )
    return document(422, Invalid.code, "Not valid", detail, "mend the request", errors=faults)


def _fault(details: Any) -> dict[str, str]:
    """One of pydantic's errors; the first part of its place is `body`, `query` or `path`."""
    loc: Sequence[Any] = details["loc"]
    message = str(details["msg"]).removeprefix("Value error, ")
    found = details.get("input")
    if isinstance(found, str | int | float):
        message = f"{message} (found {str(found)[:60]!r})"
        guess = did_you_mean(str(found), details.get("ctx", {}).get("allowed", ()))
        message += f"; did you mean {guess!r}?" if guess else ""
    return {"field": field_path(tuple(loc[1:])), "message": message}


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return document(
            404,
            NotFound.code,
            "No such address",
            f"there is no {request.url.path}",
            "GET /api/v1/openapi.json lists all",
        )
    return document(
        error.status_code,
        Invalid.code,
        "Not possible",
        f"{error.detail}: {request.method} {request.url.path}",
    )


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    _log.error("api.unexpected_error", method=request.method, path=request.url.path, exc_info=error)
    return document(
        500,
        PhoenixError.code,
        "Error inside Phoenix",
        f"unexpected {type(error).__name__} while answering {request.method} {request.url.path}",
        "the details are in the log of `phoenix up`; please report them",
    )
