"""API tokens of a cluster, for all replicas: in the Redis or Valkey.

    tokens          hash: by id, the JSON of what is kept of one token
    tokens:used     hash: by id, when it was used last
    tokens:version  random, of whoever made or revoked one last

Who changes them writes only over the version that they have read. A request asks for its one token, so that
one that was revoked at any replica lets in at none from then on. Each replica also holds a copy, which
`refresh` brings up to date: while the store is away a token counts that was in it, for an hour. It could not
be revoked meanwhile, and an abort must not wait for the store (rule R2).
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeVar, cast

from pydantic import ValidationError
from redis.asyncio import Redis

from phoenix_orch.kernel.errors import Retryable, Terminal
from phoenix_orch.runtime.valkey_client import answered
from phoenix_orch.security.tokens import ID_LENGTH, Token, Tokens

TRIES = 50
"""Times that a change is made anew because others were faster."""
PATIENCE = 0.5
"""Seconds that a request waits for the store before the copy counts."""
LEFT_OUT = 5.0
"""Seconds for which the store is not asked once it did not answer."""
COPY_COUNTS = timedelta(hours=1)
"""How long what was in the store counts while it is away."""
T = TypeVar("T")
_SWAP = """
local version = redis.call('GET', KEYS[3]) or ''
if version ~= ARGV[1] then return 0 end
local gone = tonumber(ARGV[3])
for i = 4, 3 + gone do
  redis.call('HDEL', KEYS[1], ARGV[i])
  redis.call('HDEL', KEYS[2], ARGV[i])
end
for i = 4 + gone, #ARGV, 2 do
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
end
redis.call('SET', KEYS[3], ARGV[2])
return 1
"""


class SharedTokens:
    """Each method raises Retryable while the store is away, and Terminal where it holds something else."""

    def __init__(self, client: Redis, *, prefix: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: seconds, only ever rising."""
        self._client = client
        self._keys = [f"{prefix}tokens", f"{prefix}tokens:used", f"{prefix}tokens:version"]
        self._tokens, self._used, self._version = self._keys
        self._swap = client.register_script(_SWAP)
        self._clock = clock
        self._copy: Mapping[str, Token] = {}
        self._copied: tuple[str, float] | None = None
        """Version of the copy, and when that was last seen to be the newest."""
        self._away_until = float("-inf")

    async def read(self) -> Tokens:
        return (await self._read())[1]

    async def one(self, id: str) -> Token | None:  # noqa: A002 - the field's word
        """As it is in the store; while that is away, as it was in the copy."""
        if len(id) != ID_LENGTH:
            return None
        spare = self._copied_one(id)
        if spare is not None and self._clock() < self._away_until:
            return spare
        try:
            async with asyncio.timeout(None if spare is None else PATIENCE):
                return await self._stored(id)
        except (Retryable, TimeoutError):
            if spare is None:
                raise
            self._away_until = self._clock() + LEFT_OUT
            return spare

    async def _stored(self, id: str) -> Token | None:  # noqa: A002
        async with answered(self._client), self._client.pipeline(transaction=False) as pipe:
            pipe.hget(self._tokens, id)
            pipe.hget(self._used, id)
            found, used = await pipe.execute()
        return None if found is None else self._decoded(found, used)

    def _copied_one(self, id: str) -> Token | None:  # noqa: A002
        """None where the copy has none, or is too old to count."""
        if self._copied is None or self._clock() - self._copied[1] >= COPY_COUNTS.total_seconds():
            return None
        return self._copy.get(id)

    async def change(self, how: Callable[[Tokens], tuple[Tokens, T]]) -> T:
        """After a Retryable nobody knows whether it is written."""
        for _ in range(TRIES):
            version, held = await self._read()
            new, told = how(held)
            if new == held:
                return told
            gone = held.tokens.keys() - new.tokens.keys()
            changed = [one for name, one in new.tokens.items() if held.tokens.get(name) != one]
            words: list[Any] = [version, secrets.token_urlsafe(16), len(gone), *gone]
            for one in changed:
                words += [one.id, one.model_dump_json(by_alias=True, exclude={"last_used"})]
            async with answered(self._client):
                written: Any = await self._swap(keys=self._keys, args=words)
            if written:
                self._copy, self._copied = new.tokens, (words[1], self._clock())
                return told
            await asyncio.sleep(0)
        raise Retryable("tokens are being written by others all the time", remedy="say the same again")

    async def used(self, id: str, at: datetime) -> None:  # noqa: A002
        if self._clock() < self._away_until:
            return
        async with answered(self._client):
            await cast("Any", self._client.hset(self._used, id, at.isoformat()))

    async def refresh(self) -> Mapping[str, Token]:
        """Bring the copy up to date, and give it. While the store is away it raises, and the copy stays."""
        asked = self._clock()
        async with answered(self._client):
            version = _text(await cast("Any", self._client.get(self._version)))
        if self._copied is None or version != self._copied[0]:
            version, held = await self._read()
            self._copy = held.tokens
        self._copied = version, asked
        self._away_until = float("-inf")
        return self._copy

    async def _read(self) -> tuple[str, Tokens]:
        """(version, all of them), of one moment."""
        async with answered(self._client), self._client.pipeline(transaction=True) as pipe:
            pipe.get(self._version)
            pipe.hgetall(self._tokens)
            pipe.hgetall(self._used)
            version, found, used = await pipe.execute()
        held = {_text(name): self._decoded(text, used.get(name)) for name, text in found.items()}
        return _text(version), Tokens(tokens=held)

    def _decoded(self, text: bytes | str, used: bytes | str | None) -> Token:
        try:
            token = Token.model_validate_json(text)
            at = None if used is None else datetime.fromisoformat(_text(used))
        except (ValidationError, ValueError):  # their text would repeat what is there
            raise Terminal(
                f"{self._tokens} in the store is not what Phoenix wrote",
                remedy=f"redis-cli DEL {self._tokens}, and make the tokens anew",
            ) from None
        return token.model_copy(update={"last_used": at})


def _text(value: bytes | str | None) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""
