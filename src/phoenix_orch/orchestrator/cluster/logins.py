"""Logins at an identity provider that are under way, for all replicas: begun at one, finished at any.

    logins        hash: by SHA-256 of the state, what was agreed for it
    logins:until  sorted set: the same names, by when they end (ms since 1970)

Whoever takes a login removes it in the same script: of two replicas that are brought one answer, one has it.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from redis.asyncio import Redis

from phoenix_orch.runtime.valkey_client import answered
from phoenix_orch.security.oidc_logins import LOGIN, MOST_LOGINS, Login

_KEEP = """
local over = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[3])
local spare = redis.call('ZCARD', KEYS[2]) - #over - tonumber(ARGV[6]) + 1
for _, name in ipairs(over) do
  redis.call('ZREM', KEYS[2], name)
  redis.call('HDEL', KEYS[1], name)
end
for _ = 1, spare do
  local oldest = redis.call('ZPOPMIN', KEYS[2])
  redis.call('HDEL', KEYS[1], oldest[1])
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
return 1
"""
_TAKE = """
local found = redis.call('HGET', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return found
"""


class SharedLogins:
    """Each method raises Retryable while the store is away."""

    def __init__(self, client: Redis, *, prefix: str) -> None:
        self._client = client
        self._keys = (f"{prefix}logins", f"{prefix}logins:until")
        self._keep = client.register_script(_KEEP)
        self._take = client.register_script(_TAKE)

    async def keep(self, digest: str, login: Login) -> None:
        content = {
            "nonce": login.nonce,
            "verifier": login.verifier,
            "redirect": login.redirect,
            "after": login.after,
            "until": login.until.isoformat(),
        }
        lasts = LOGIN // timedelta(milliseconds=1)
        times = (_ms(login.until - LOGIN), _ms(login.until), lasts)
        async with answered(self._client):
            await self._keep(keys=self._keys, args=[digest, json.dumps(content), *times, MOST_LOGINS])

    async def take(self, digest: str) -> Login | None:
        async with answered(self._client):
            found: Any = await self._take(keys=self._keys, args=[digest])
        if found is None:
            return None
        content = json.loads(found)
        return Login(**{**content, "until": datetime.fromisoformat(content["until"])})


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)
