"""Routes whose errors are pages: what was found, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute
from pydantic import ValidationError

from phoenix_orch.api.problems import status_of
from phoenix_orch.console import render
from phoenix_orch.kernel.errors import Invalid, PhoenixError, Unauthenticated
from phoenix_orch.kernel.masking import told

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class PageRoute(APIRoute):
    """Answers errors of Phoenix, and what nobody can understand, with a page."""

    def get_route_handler(self) -> Handler:
        answer = super().get_route_handler()

        async def page(request: Request) -> Response:
            try:
                return await answer(request)
            except Unauthenticated:
                return RedirectResponse(f"/login?next={quote(request.url.path)}", status_code=303)
            except PhoenixError as error:
                return error_page(error)
            except (RequestValidationError, ValidationError) as error:
                faults = "; ".join(f"{_place(one['loc'])}: {one['msg']}" for one in error.errors())
                return error_page(Invalid(told(faults), remedy="go back and mend it"))

        return page


def error_page(error: PhoenixError) -> Response:
    status, title = status_of(error)
    return render.page("error.html", status=status, code=status, heading=title, error=error)


def _place(loc: tuple[Any, ...]) -> str:
    return ".".join(str(part) for part in loc if part not in ("query", "path", "body"))
