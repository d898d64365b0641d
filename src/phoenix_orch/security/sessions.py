"""Sessions of people in browsers: kept here, and ended here.

The browser has nothing but a random name. Sessions are in memory: when Phoenix ends everybody logs in again.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from phoenix_orch.security.rights import Principal

MOST_SESSIONS = 10_000
"""The one that was used longest ago makes room."""


@dataclass(frozen=True, slots=True)
class Limits:
    idle: timedelta = timedelta(minutes=30)
    """Without a request for so long it ends."""
    absolute: timedelta = timedelta(hours=12)
    """It ends so long after the login, whatever happens."""
    code: timedelta = timedelta(minutes=1)
    """How long a login code may be used."""


@dataclass(frozen=True, slots=True)
class Session:
    key: str
    """SHA-256 of its name: what is kept lets nobody in."""
    principal: Principal
    credential: str
    """What it was begun with, `token:ID`: it ends with that. Empty: nothing that can be revoked."""
    csrf: str
    """What every form of this session carries."""
    begun: datetime
    seen: datetime
    until: datetime
    """It ends then at the latest."""

    def lasts(self, limits: Limits, now: datetime) -> bool:
        return now < self.until and now - self.seen < limits.idle


@dataclass(frozen=True, slots=True)
class Invited:
    """Whom a code lets in."""

    principal: Principal
    credential: str
    """As of the session that it begins."""


class Sessions:
    """All sessions of one process, and the codes that begin one."""

    def __init__(self, now: Callable[[], datetime], limits: Limits = Limits()) -> None:
        """`now`: on a clock on the wall."""
        self._now = now
        self._limits = limits
        self._sessions: dict[str, Session] = {}
        self._codes: dict[str, tuple[Invited, datetime]] = {}

    def begin(
        self, principal: Principal, *, credential: str = "", until: datetime | None = None
    ) -> tuple[str, Session]:
        """(name for the cookie, session). Never the name of a session that is there: a login changes it.

        `until`: when what it is begun with ends.
        """
        now = self._now()
        self._forget(now)
        name = secrets.token_urlsafe(32)
        end = now + self._limits.absolute
        session = Session(
            key=_key(name),
            principal=principal,
            credential=credential,
            csrf=secrets.token_urlsafe(32),
            begun=now,
            seen=now,
            until=end if until is None else min(end, until),
        )
        while len(self._sessions) >= MOST_SESSIONS:
            del self._sessions[min(self._sessions.values(), key=lambda one: one.seen).key]
        self._sessions[session.key] = session
        return name, session

    def find(self, name: str) -> Session | None:
        """The session of that name, which is used now; None when it has ended, or never was."""
        now = self._now()
        session = self._sessions.get(_key(name))
        if session is None:
            return None
        if not session.lasts(self._limits, now):
            del self._sessions[session.key]
            return None
        session = self._sessions[session.key] = replace(session, seen=now)
        return session

    def end(self, session: Session) -> None:
        self._sessions.pop(session.key, None)

    def end_of(self, credential: str) -> list[Session]:
        """End all that were begun with it; those."""
        ended = [one for one in self._sessions.values() if one.credential == credential]
        for one in ended:
            self.end(one)
        return ended

    def code(self, principal: Principal, *, credential: str = "") -> str:
        """A code that lets a browser in as `principal`, once and soon. `credential`: what that ends with."""
        now = self._now()
        self._codes = {key: one for key, one in self._codes.items() if now < one[1]}
        code = secrets.token_urlsafe(24)
        self._codes[_key(code)] = Invited(principal, credential), now + self._limits.code
        return code

    def redeem(self, code: str) -> Invited | None:
        """Whom the code lets in; None for one that was used, is too old, or never was."""
        found = self._codes.pop(_key(code), None)
        return found[0] if found is not None and self._now() < found[1] else None

    def _forget(self, now: datetime) -> None:
        self._sessions = {key: one for key, one in self._sessions.items() if one.lasts(self._limits, now)}


def _key(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
