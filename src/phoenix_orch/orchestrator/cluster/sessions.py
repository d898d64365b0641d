"""Sessions of people in browsers, for all replicas: in the Redis or Valkey, until they are used no more.

The browser has a random name, and the store its hash with who that is, as the API server knows them. What
they may do is asked anew all the time; the token that they came with is kept nowhere.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from redis.asyncio import Redis

from phoenix_orch.runtime.valkey_client import answered
from phoenix_orch.security.kube_review import User
from phoenix_orch.security.sessions import Limits

LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class KubeSession:
    key: str
    """SHA-256 of its name."""
    user: User
    csrf: str
    begun: datetime
    until: datetime
    """It ends then at the latest."""


class SharedSessions:
    """Each method raises Retryable while the store is away."""

    def __init__(
        self,
        client: Redis,
        *,
        prefix: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        limits: Limits = LIMITS,
    ) -> None:
        self._client = client
        self._prefix = f"{prefix}session:"
        self.now = now
        self._limits = limits

    async def begin(self, user: User, ends: datetime | None = None) -> tuple[str, KubeSession]:
        """(name for the cookie, session). `ends`: when what it is begun with does; None: nobody knows."""
        name, now = secrets.token_urlsafe(32), self.now()
        until = now + self._limits.absolute
        if ends is not None:
            until = min(until, ends)
        session = KubeSession(_key(name), user, secrets.token_urlsafe(32), now, until)
        content = {"user": user, "csrf": session.csrf, "begun": now.isoformat(), "until": until.isoformat()}
        async with answered(self._client):
            await self._client.set(self._prefix + session.key, json.dumps(content), px=self._left(session))
        return name, session

    async def find(self, name: str) -> KubeSession | None:
        """The session of that name, which is used now; None where it has ended, or never was."""
        key = _key(name)
        async with answered(self._client):
            found: Any = await self._client.get(self._prefix + key)
        if found is None:
            return None
        content = json.loads(found)
        begun, until = (datetime.fromisoformat(content[one]) for one in ("begun", "until"))
        session = KubeSession(key, content["user"], content["csrf"], begun, until)
        async with answered(self._client):
            await cast("Any", self._client.pexpire(self._prefix + key, self._left(session)))
        return session if self.now() < until else None

    async def users(self, keys: Sequence[str]) -> dict[str, User]:
        """Whose the sessions of those keys are, without using them; what has ended is not among them."""
        if not keys:
            return {}
        async with answered(self._client):
            found: Any = await self._client.mget([self._prefix + key for key in keys])
        return {
            key: json.loads(text)["user"] for key, text in zip(keys, found, strict=True) if text is not None
        }

    async def end(self, session: KubeSession) -> None:
        async with answered(self._client):
            await cast("Any", self._client.delete(self._prefix + session.key))

    def _left(self, session: KubeSession) -> int:
        """Milliseconds until it ends, where nobody uses it."""
        left = min(self._limits.idle, session.until - self.now())
        return max(1, left // timedelta(milliseconds=1))


def expiry(token: str) -> datetime | None:
    """When a signed token ends, which the API server has found to count; None where it does not say."""
    part = [*token.split("."), ""][1]
    try:
        found = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["exp"]
        return datetime.fromtimestamp(float(found), UTC)
    except (ValueError, KeyError, TypeError, OverflowError, OSError):
        return None


def _key(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
