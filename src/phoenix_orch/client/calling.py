"""How a call of the API is made: asked, answered, decoded, and sent again where that is safe."""

from __future__ import annotations

import functools
import json
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn, TypeVar, cast
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from pydantic import TypeAdapter, ValidationError

from phoenix_orch.client.places import Place
from phoenix_orch.client.problems import raise_problem, unknown_there
from phoenix_orch.client.transport import Answer, NobodyListens, NotAllowed, ask
from phoenix_orch.kernel.errors import Invalid, NotFound, PhoenixError, Retryable, Terminal, Unavailable
from phoenix_orch.orchestrator.limits import LARGEST_BODY

T = TypeVar("T")

PREFIX = "/api/v1/"
SAME_VERSION = "use the `phoenix` of the same version as the one that runs"
KEY = "Idempotency-Key"
TRIES = 2
"""Times that a change is sent where the connection is lost before its answer."""


class Calling:
    """What all calls of the client are made with."""

    def __init__(self, place: Place, timeout: float) -> None:
        """`timeout`: seconds for one answer."""
        self._place = place
        self._timeout = timeout

    def _get(self, kind: type[T], *path: str, query: Mapping[str, Any] | None = None) -> T:
        return self._call(kind, "GET", path, query=query)

    def _pages(self, kind: type[T], *path: str) -> Iterator[T]:
        """All pages of a list."""
        query: dict[str, Any] = {}
        while True:
            answer = self._asked("GET", path, query=query)
            yield self._decoded(kind, answer, path)
            cursor = _next(answer.headers.get("link", ""))
            if not cursor:
                return
            query = {"cursor": cursor}

    def _post(
        self, kind: type[T], body: Mapping[str, Any], *path: str, headers: Mapping[str, str] | None = None
    ) -> T:
        content = json.dumps(body).encode()
        if len(content) > LARGEST_BODY:
            raise Invalid(
                f"that is more than the {LARGEST_BODY:,} bytes that are taken at once",
                remedy="aliases in YAML stand for all they name: write less, or apply it in parts",
            )
        return self._call(kind, "POST", path, body=content, headers=headers)

    def _silent(self) -> Retryable:
        return Retryable(
            f"{self._place.name} did not answer within {self._timeout:g} s",
            remedy="try again; `phoenix doctor` tells what is wrong",
        )

    def _call(
        self,
        kind: type[T],
        method: str,
        path: tuple[str, ...],
        *,
        query: Mapping[str, Any] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> T:
        answer = self._asked(method, path, query=query, body=body, headers=headers)
        return self._decoded(kind, answer, path)

    def _asked(
        self,
        method: str,
        path: tuple[str, ...],
        *,
        query: Mapping[str, Any] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """The answer. Raises what a problem document says."""
        target = PREFIX + "/".join(quoted(part) for part in path)
        if query:
            target += f"?{urlencode(query, doseq=True)}"
        answer = self._ask(method, target, body, headers or {})
        if answer.status >= 400:
            self._raise(answer)
        return answer

    def _raise(self, answer: Answer) -> NoReturn:
        """What a problem document says; with both versions where another one serves, and that may be why."""
        try:
            raise_problem(answer.status, answer.body)
        except PhoenixError as error:
            apart = self._versions_apart() if unknown_there(answer.status, answer.body) else ""
            if not apart:
                raise
            raise type(error)(
                f"{error.message}; {apart}", remedy=f"{SAME_VERSION}; or {error.remedy}"
            ) from None

    def _versions_apart(self) -> str:
        """In words, where who serves is of another version than this client; empty where nothing says so."""
        try:
            answer = self._ask("GET", f"{PREFIX}version", None, {})
            there = str(json.loads(answer.body)["version"])
        except (PhoenixError, ValueError, KeyError, TypeError):
            return ""
        here = _installed()
        return f"{self._place.name} is version {there}, and this is {here}" if there != here else ""

    def _decoded(self, kind: type[T], answer: Answer, path: tuple[str, ...]) -> T:
        try:
            # Fields that a newer Phoenix has added within v1 are passed over.
            answered: T = _adapter(cast("Any", kind)).validate_json(answer.body, extra="ignore")
        except ValidationError as error:
            apart = self._versions_apart() or f"this is version {_installed()}"
            raise Terminal(
                f"the answer to {PREFIX}{'/'.join(path)} is not one that is known here; {apart}",
                remedy=SAME_VERSION,
            ) from error
        return answered

    def _ask(self, method: str, target: str, body: bytes | None, more: Mapping[str, str]) -> Answer:
        headers = {**self._place.headers, **more}
        tries = 1
        if method != "GET":
            headers[KEY] = uuid.uuid4().hex
            tries = TRIES
        while True:
            tries -= 1
            try:
                return ask(self._place.connection(self._timeout), method, target, body, headers)
            except NobodyListens as error:
                raise self._place.nobody_listens() from error
            except NotAllowed as error:
                raise self._place.not_allowed() from error
            except TimeoutError as error:
                raise self._silent() from error
            except OSError as error:
                if not tries:
                    raise Unavailable(
                        f"{self._place.name} went away while it was asked",
                        remedy="`phoenix up` starts it again",
                    ) from error


def _next(link: str) -> str:
    """The cursor of the next page that a `Link` names."""
    address, _, relation = link.partition(">")
    if 'rel="next"' not in relation:
        return ""
    return parse_qs(urlsplit(address.removeprefix("<")).query).get("cursor", [""])[0]


def _installed() -> str:
    from importlib.metadata import version  # noqa: PLC0415 - most answers are understood

    return version("phoenix-orchestrator")


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def quoted(part: str) -> str:
    """One part of a path. A name is never taken for a path, whatever is in it."""
    if part in ("", ".", ".."):
        raise NotFound(
            f"there is nothing with the name {part!r}", remedy="give a name from `phoenix get rollouts`"
        )
    return quote(part, safe="")
