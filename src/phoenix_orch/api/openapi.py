"""The description of the API: what FastAPI finds, and what is true of all routes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from phoenix_orch.api.problems import CONTENT_TYPE

METHODS = frozenset({"get", "post", "put", "patch", "delete"})
ACTING = METHODS - {"get"}

PROBLEM: dict[str, Any] = {
    "title": "Problem",
    "description": "An error (RFC 9457): what was found, and what to do about it.",
    "type": "object",
    "required": ["type", "title", "status", "code", "detail", "remedy"],
    "properties": {
        "type": {"type": "string", "description": "`urn:phoenix-orch:problem:` and the code."},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "code": {"type": "string", "description": "For programs; stable."},
        "detail": {"type": "string", "description": "What was found."},
        "remedy": {"type": "string", "description": "What to do."},
        "requestId": {"type": "string", "description": "As in `X-Request-ID` and in the log."},
        "errors": {
            "type": "array",
            "description": "What is not valid about a request, place by place.",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
    "example": {
        "type": "urn:phoenix-orch:problem:not_found",
        "title": "No such name",
        "status": 404,
        "code": "not_found",
        "detail": "there is no rollout 'wbe'; did you mean 'web'?",
        "remedy": "rollouts: api, web",
        "requestId": "9f2b61c07d3a4e85",
    },
}
ANSWERS = {
    "400": "The request is not text that can be read.",
    "401": "Who asks is not known.",
    "403": "Who asks has no right to this.",
    "404": "There is nothing of that name.",
    "413": "The body is too large.",
    "422": "The request is not valid.",
    "429": "Too many requests; `Retry-After` says when to come back.",
    "500": "An error inside Phoenix, or one that no repetition mends.",
    "503": "Store or router are away; the same request may succeed later.",
}
ANSWERS_OF_ACTS = {
    "409": "Not in this state, changed by somebody else in between, latched, or under way already.",
    "412": "What `If-Match` names is not what is there any more.",
}
PROBES = "/healthz/"
TAGS = [
    {"name": "phoenix", "description": "This process: version, health, who asks."},
    {"name": "rollouts", "description": "Releases: where they stand, why, and words to them."},
    {"name": "services", "description": "What runs, and what it writes."},
    {"name": "streams", "description": "Changes as they come, as server-sent events."},
]


def operation_id(route: APIRoute) -> str:
    """The name of the function: generated clients read well."""
    return route.name


def describing(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """What `app.openapi` is set to."""

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            found = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
                tags=TAGS,
            )
            _complete(found)
            app.openapi_schema = found
        return app.openapi_schema

    return describe


def operations(description: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(path, method, operation) of everything that is described."""
    for path, item in description["paths"].items():
        for method, operation in item.items():
            if method in METHODS:
                yield path, method, operation


def _complete(description: dict[str, Any]) -> None:
    schemas = description.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = PROBLEM
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for path, method, operation in operations(description):
        told = ANSWERS | (ANSWERS_OF_ACTS if method in ACTING else {})
        if path.startswith(PROBES):
            told = {"429": told["429"], "500": told["500"]}
        for status, words in told.items():
            if status == "422" or status not in operation["responses"]:
                operation["responses"][status] = _answer(words)


def _answer(words: str) -> dict[str, Any]:
    return {
        "description": words,
        "content": {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
