"""Errors as `application/problem+json` (RFC 9457), one status and one code for each kind.

`code` and `status` are for programs, `detail` says what was found, `remedy` what to do about it.
The client turns the document into the same error again.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from phoenix_orch.api.request_ids import request_id
from phoenix_orch.kernel.config import field_path
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
)
from phoenix_orch.kernel.masking import told
from phoenix_orch.kernel.model_shape import explain
from phoenix_orch.kernel.quoting import ENVIRONMENT

CONTENT_TYPE = "application/problem+json"

_KINDS: tuple[tuple[type[PhoenixError], int, str], ...] = (
    (NotFound, 404, "No such name"),
    (BadState, 409, "Not possible in this state"),
    (Unauthenticated, 401, "Nobody is known"),
    (Forbidden, 403, "No right"),
    (Invalid, 422, "Not valid"),
    (Outdated, 412, "Not what it was seen to be any more"),
    (Conflict, 409, "Changed by somebody else in between"),
    (Latched, 409, "Rolled back and latched"),
    (TooMany, 429, "Too many requests"),
    (Retryable, 503, "Not available just now"),
    (Terminal, 500, "Cannot work"),
    (PhoenixError, 500, "Error"),
)

_STRAY = frozenset({"extra_forbidden", "model_type", "model_attributes_type"})
"""Errors at places where anything may stand."""

_log = structlog.get_logger("phoenix.api")


def document(
    status: int,
    code: str,
    title: str,
    detail: str,
    remedy: str = "",
    *,
    errors: Sequence[Mapping[str, str]] = (),
) -> JSONResponse:
    """A problem document. `detail` and `errors` may repeat what was sent: they are made fit to be shown."""
    body = {
        "type": f"urn:phoenix-orch:problem:{code}",
        "title": title,
        "status": status,
        "code": code,
        "detail": told(detail),
        "remedy": told(remedy),
        "requestId": request_id(),
    }
    if errors:
        body["errors"] = [{name: told(text) for name, text in fault.items()} for fault in errors]
    return JSONResponse(body, status_code=status, media_type=CONTENT_TYPE)


def install(app: FastAPI) -> None:
    """Answer every error of `app` as a problem document."""
    app.add_exception_handler(PhoenixError, _phoenix_error)
    app.add_exception_handler(RequestValidationError, _request_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_middleware(Unexpected)


async def _phoenix_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, PhoenixError)
    return problem(error)


def problem(error: PhoenixError) -> JSONResponse:
    """The document of one of our own errors."""
    status, title = status_of(error)
    answer = document(status, error.code, title, error.message, error.remedy)
    answer.headers.update(_headers(error))
    return answer


def status_of(error: PhoenixError) -> tuple[int, str]:
    """The status that an error is answered with, and what it is called."""
    return next((status, title) for kind, status, title in _KINDS if isinstance(error, kind))


def _headers(error: PhoenixError) -> dict[str, str]:
    """What programs that know HTTP alone look at."""
    if isinstance(error, Unauthenticated):
        return {"WWW-Authenticate": 'Bearer realm="phoenix"'}
    if isinstance(error, TooMany):
        return {"Retry-After": str(max(1, math.ceil(error.retry_after)))}
    return {}


async def _request_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    faults = [_fault(details) for details in error.errors()]
    detail = "; ".join(
        f"{fault['field']}: {fault['message']}" if fault["field"] else fault["message"] for fault in faults
    )
    return document(422, Invalid.code, "Not valid", detail, "mend the request", errors=faults)


def _fault(details: Any) -> dict[str, str]:
    """One of pydantic's errors; the first part of its place is `body`, `query` or `path`.

    What was found is told where nothing secret is expected.
    """
    message, allowed = explain(details, None)
    found = details.get("ctx", {}).get("found")
    if found is None and not ({ENVIRONMENT, "command"} & set(details["loc"]) or details["type"] in _STRAY):
        found = details.get("input")
    if isinstance(found, str | int | float):
        message += f", found {str(found)[:60]!r}"
    if allowed:
        message += f", allowed: {allowed}"
    return {"field": field_path(tuple(details["loc"][1:])), "message": message}


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


class Unexpected:
    """Answers what nobody foresaw. As ASGI middleware, because the framework raises an error again after
    its own handlers, and the server would write a traceback into the log with all its locals."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:  # noqa: BLE001 - the last line of defence
            _log.error(
                "unexpected error",
                method=scope.get("method"),
                path=scope.get("path"),
                error=f"{type(error).__name__}: {error}",
                where=_where(error),
            )
            if not begun:
                await _sorry(error)(scope, receive, send)


def _where(error: BaseException) -> str:
    """The last calls, innermost first: enough to find the fault, and no values."""
    frames = traceback.extract_tb(error.__traceback__)[-5:]
    return " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))


def _sorry(error: Exception) -> JSONResponse:
    return document(
        500,
        PhoenixError.code,
        "Error inside Phoenix",
        f"Phoenix met an error of its own: {type(error).__name__}",
        "the details are in the log of `phoenix up`; please report them",
    )
