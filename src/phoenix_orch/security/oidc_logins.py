"""Logins at a provider that are under way: kept for minutes, and taken once.

A login is kept under the SHA-256 of its state, which the browser alone has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

LOGIN = timedelta(minutes=10)
"""How long somebody may take at the provider."""
MOST_LOGINS = 1000
"""Under way at once; the oldest makes room."""


@dataclass(frozen=True, slots=True)
class Login:
    """One that is under way."""

    nonce: str
    verifier: str
    """Of PKCE (RFC 7636)."""
    redirect: str
    """Where the provider sends the browser back to."""
    after: str
    """The path that is shown in the end."""
    until: datetime


class Logins(Protocol):
    """Where they are kept. Both may raise Retryable."""

    async def keep(self, digest: str, login: Login) -> None: ...

    async def take(self, digest: str) -> Login | None:
        """The login, to whoever asks first; None where there is none, and to everybody after."""
        ...


class MemoryLogins:
    """Of one process."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._held: dict[str, Login] = {}

    async def keep(self, digest: str, login: Login) -> None:
        now = self._now()
        self._held = {one: held for one, held in self._held.items() if now < held.until}
        while len(self._held) >= MOST_LOGINS:
            del self._held[next(iter(self._held))]
        self._held[digest] = login

    async def take(self, digest: str) -> Login | None:
        return self._held.pop(digest, None)
