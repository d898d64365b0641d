"""Approvals of a cluster, for all replicas: one hash in the Redis or Valkey.

    approvals     version: random, of whoever wrote last; content: JSON of all that are remembered

Who changes them writes only over the version that they have read: of two replicas that use one approval up,
or answer it, one does, and the other one looks anew.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Any, TypeVar, cast

from pydantic import ValidationError
from redis.asyncio import Redis

from phoenix_orch.kernel.errors import Retryable, Terminal
from phoenix_orch.runtime.valkey_client import answered
from phoenix_orch.security.two_persons import Approvals

TRIES = 50
"""Times that a change is made anew because others were faster."""
T = TypeVar("T")
_SWAP = """
local version = redis.call('HGET', KEYS[1], 'version') or ''
if version == ARGV[2] then return 1 end
if version ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[2], 'content', ARGV[3])
return 1
"""


class SharedApprovals:
    """Each method raises Retryable while the store is away, and Terminal where it holds something else."""

    def __init__(self, client: Redis, *, prefix: str) -> None:
        self._client = client
        self._key = f"{prefix}approvals"
        self._swap = client.register_script(_SWAP)

    async def read(self) -> Approvals:
        return (await self._read())[1]

    async def change(self, how: Callable[[Approvals], tuple[Approvals, T]]) -> T:
        """After a Retryable nobody knows whether it is written; an approval that was used up by then is
        asked for again."""
        for _ in range(TRIES):
            version, held = await self._read()
            new, told = how(held)
            if new == held:
                return told
            words = [version, secrets.token_urlsafe(16), new.model_dump_json(by_alias=True)]
            async with answered(self._client):
                written: Any = await self._swap(keys=[self._key], args=words)
            if written:
                return told
            await asyncio.sleep(0)
        raise Retryable("approvals are being written by others all the time", remedy="say the same again")

    async def _read(self) -> tuple[str, Approvals]:
        """(version, content)"""
        async with answered(self._client):
            found: Any = await cast("Any", self._client.hmget(self._key, ["version", "content"]))
        version, content = found
        if content is None:
            return "", Approvals()
        try:
            return _text(version), Approvals.model_validate_json(content)
        except ValidationError:  # its text would repeat what is there
            raise Terminal(
                f"{self._key} in the store is not what Phoenix wrote",
                remedy=f"redis-cli DEL {self._key}: whoever waits asks again",
            ) from None


def _text(value: bytes | str | None) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""
