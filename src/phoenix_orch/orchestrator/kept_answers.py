"""What was answered to requests that carry an idempotency key, so that a repeated one changes nothing.

A key is taken before the request is acted on, and keeps its answer for a day. When the process dies in
between nobody knows what was done: the key is free again after a minute, and the same request is acted on as
a new one, which is refused where it makes no sense any more.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar, cast

from pydantic import BaseModel, ConfigDict, ValidationError
from redis.asyncio import Redis

from phoenix_orch.kernel.errors import Conflict, Invalid, Retryable
from phoenix_orch.runtime.valkey_client import answered

KEPT = 24 * 3600
"""Seconds that an answer is kept."""
UNDER_WAY = 60
"""Seconds after which a request that has not been answered counts as lost."""


PATIENCE = 0.5
"""Seconds that a request waits for a store that may be left out."""
LEFT_OUT = 5.0
"""Seconds for which it is left out once it did not answer."""

T = TypeVar("T")


class KeptAnswer(BaseModel):
    """One answer as it was sent."""

    model_config = ConfigDict(frozen=True)

    status: int
    content_type: str
    body: bytes


class KeptAnswers(Protocol):
    """Each method raises Retryable while the store is away."""

    async def begin(self, key: str, request: str) -> KeptAnswer | None:
        """Take the key for a request, or give what was answered to it.

        Raises Conflict while the same request is under way, Invalid when the key was another request's.
        """
        ...

    async def keep(self, key: str, request: str, answer: KeptAnswer) -> None:
        """Keep the answer to the request that has the key."""
        ...

    async def forget(self, key: str) -> None:
        """Let go of a key whose request came to nothing."""
        ...


class ValkeyAnswers:
    """KeptAnswers beside the rollouts, so that they outlive the process."""

    def __init__(self, client: Redis, *, prefix: str = "phoenix:") -> None:
        self._client = client
        self._prefix = f"{prefix}answer:"

    async def begin(self, key: str, request: str) -> KeptAnswer | None:
        async with answered(self._client):
            found: Any = await self._client.set(
                self._prefix + key, json.dumps({"request": request}), nx=True, get=True, ex=UNDER_WAY
            )
        return read(found, request)

    async def keep(self, key: str, request: str, answer: KeptAnswer) -> None:
        async with answered(self._client):
            await self._client.set(self._prefix + key, written(request, answer), ex=KEPT)

    async def forget(self, key: str) -> None:
        async with answered(self._client):
            await cast("Any", self._client.delete(self._prefix + key))


class MemoryAnswers:
    """KeptAnswers of one process, where there is no store that lasts. The oldest leave first."""

    MOST = 10_000

    def __init__(self) -> None:
        self._kept: dict[str, str] = {}

    async def begin(self, key: str, request: str) -> KeptAnswer | None:
        found = self._kept.get(key)
        if found is None:
            self._put(key, json.dumps({"request": request}))
        return read(found, request)

    async def keep(self, key: str, request: str, answer: KeptAnswer) -> None:
        self._put(key, written(request, answer))  # it may have been begun elsewhere

    def _put(self, key: str, kept: str) -> None:
        self._kept[key] = kept
        if len(self._kept) > self.MOST:
            del self._kept[next(iter(self._kept))]

    async def forget(self, key: str) -> None:
        self._kept.pop(key, None)


class SpareAnswers:
    """KeptAnswers in a store that all replicas have; while it is away each keeps its own.

    Then a request that is repeated to another replica is acted on again, and refused where that makes no
    sense. Nothing that a person asks for, an abort least of all, waits for that store (rule R2).
    """

    def __init__(
        self, shared: KeptAnswers, own: KeptAnswers, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._shared = shared
        self._own = own
        self._clock = clock
        self._away_until = float("-inf")

    async def begin(self, key: str, request: str) -> KeptAnswer | None:
        return await self._either(
            lambda: self._shared.begin(key, request), lambda: self._own.begin(key, request)
        )

    async def keep(self, key: str, request: str, answer: KeptAnswer) -> None:
        await self._either(
            lambda: self._shared.keep(key, request, answer), lambda: self._own.keep(key, request, answer)
        )

    async def forget(self, key: str) -> None:
        await self._own.forget(key)
        await self._either(lambda: self._shared.forget(key), _nothing)

    async def _either(self, shared: Callable[[], Awaitable[T]], own: Callable[[], Awaitable[T]]) -> T:
        if self._clock() < self._away_until:
            return await own()
        try:
            async with asyncio.timeout(PATIENCE):
                return await shared()
        except (Retryable, TimeoutError):
            self._away_until = self._clock() + LEFT_OUT
            return await own()


async def _nothing() -> None:
    """There is nothing to forget."""


def written(request: str, answer: KeptAnswer) -> str:
    """What is kept under a key."""
    body = base64.b64encode(answer.body).decode()
    return json.dumps(
        {"request": request, "status": answer.status, "content_type": answer.content_type, "body": body}
    )


def read(found: Any, request: str) -> KeptAnswer | None:
    """What is kept under a key, seen by a request that wants it; see `KeptAnswers.begin`."""
    if found is None:
        return None
    try:
        kept: dict[str, Any] = json.loads(found)
        if kept["request"] != request:
            raise Invalid(
                "this Idempotency-Key was used for another request",
                remedy="a new key for each request; the same key and body to repeat one",
            )
        if "status" not in kept:
            raise Conflict(
                "the same request is under way already", remedy="repeat it in a moment to get its answer"
            )
        return KeptAnswer.model_validate({**kept, "body": base64.b64decode(kept["body"])})
    except (ValueError, KeyError, TypeError, ValidationError):
        return None  # nothing that Phoenix wrote; the request is acted on
