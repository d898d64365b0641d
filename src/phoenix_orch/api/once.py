"""A request with an `Idempotency-Key` is acted on once, however often it is sent.

Keys belong to whoever sends them: to a login or token, or to a user of the unix socket. Whoever shows
neither is not known to anybody, and is refused further in.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from phoenix_orch.api.doors import known
from phoenix_orch.api.limits import again
from phoenix_orch.api.openapi import ACTING
from phoenix_orch.api.problems import problem
from phoenix_orch.kernel.errors import Invalid, PhoenixError
from phoenix_orch.orchestrator.approving import NeedsSecond
from phoenix_orch.orchestrator.kept_answers import KeptAnswer, KeptAnswers

HEADER = "idempotency-key"
LONGEST_KEY = 200
REPLAYED = "idempotent-replayed"
_NOT_KEPT = frozenset({401, 403, 408, 413, 429})
"""Answers that say nothing about the request itself."""
_WAITS = f'"code":"{NeedsSecond.code}"'.encode()
"""In an answer that somebody else can change: what they agree to is asked for again, with the same key."""


class Once:
    """ASGI middleware; stands where the body is limited already."""

    def __init__(self, app: ASGIApp, answers: Callable[[], KeptAnswers]) -> None:
        self._app = app
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        word = headers.get(HEADER)
        if word is None or scope["method"].lower() not in ACTING:
            await self._app(scope, receive, send)
            return
        try:
            key = _key(word, scope, headers)
            body = await _body(receive)
            request = _digest(scope["method"], scope["path"], scope["query_string"], body)
            kept = await self._answers().begin(key, request)
        except PhoenixError as error:
            await problem(error)(scope, receive, send)
            return
        if kept is not None:
            try:
                await known(Request(scope, receive))  # whoever was let in then may not be any more
            except PhoenixError as error:
                await problem(error)(scope, receive, send)
                return
            answer = Response(kept.body, kept.status, {"content-type": kept.content_type, REPLAYED: "true"})
            await answer(scope, receive, send)
            return
        await self._act(key, request, body, scope, receive, send)

    async def _act(  # noqa: PLR0917 - three of them are ASGI's
        self, key: str, request: str, body: bytes, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Do it, and keep the answer before it is sent: whoever saw it gets the same one again."""
        seen = _Seen()
        try:
            await self._app(scope, again(body, receive), seen.send)
        except BaseException:
            await self._forget(key)
            raise
        answer = seen.answer()
        if answer is None or not _lasts(answer) or seen.secret:
            await self._forget(key)
        else:
            with contextlib.suppress(PhoenixError):  # it is done: this answer is right, kept or not
                await self._answers().keep(key, request, answer)
        for message in seen.messages:
            await send(message)

    async def _forget(self, key: str) -> None:
        with contextlib.suppress(PhoenixError):  # it lets go by itself in a minute
            await self._answers().forget(key)


def _lasts(answer: KeptAnswer) -> bool:
    """Whoever sends the same again is to get the same answer."""
    if answer.status >= 500 or answer.status in _NOT_KEPT:
        return False
    return not (answer.status == 409 and _WAITS in answer.body)


class _Seen:
    """An answer that is held back until it is whole: what acts answers in a few kilobytes."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def send(self, message: Message) -> None:
        self.messages.append(message)

    @property
    def secret(self) -> bool:
        """The route says that nobody may keep it: it lets somebody in."""
        headers = Headers(raw=self.messages[0].get("headers", [])) if self.messages else Headers()
        return "no-store" in headers.get("cache-control", "")

    def answer(self) -> KeptAnswer | None:
        if not self.messages:
            return None
        start, *rest = self.messages
        content_type = Headers(raw=start["headers"]).get("content-type", "")
        body = b"".join(message.get("body", b"") for message in rest)
        return KeptAnswer(status=start["status"], content_type=content_type, body=body)


def _key(word: str, scope: Scope, headers: Headers) -> str:
    """Under what name a key is kept: nobody gets at anything with the key of another."""
    if not word or len(word) > LONGEST_KEY or not (word.isascii() and word.isprintable()):
        raise Invalid(
            "that is no Idempotency-Key", remedy=f"1 to {LONGEST_KEY} characters of ASCII; a UUID does well"
        )
    who: Any = scope.get("state", {}).get("peer_uid")
    return _digest(str(who), headers.get("authorization", ""), headers.get("cookie", ""), word)


def _digest(*parts: str | bytes) -> str:
    found = hashlib.sha256()
    for part in parts:
        text = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        found.update(len(text).to_bytes(8, "big") + text)
    return found.hexdigest()


async def _body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return bytes(body)
