"""Who gets in by what, and what people agreed to: for one data directory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from phoenix_orch.kernel.errors import BadState, Invalid, NotFound, PhoenixError
from phoenix_orch.orchestrator.approving import Approving
from phoenix_orch.orchestrator.book import Book
from phoenix_orch.orchestrator.layout import Layout, write_whole
from phoenix_orch.runtime.users import name_of
from phoenix_orch.security import tokens
from phoenix_orch.security.recorder import Recorder
from phoenix_orch.security.rights import EMBEDDED, Grant, Kind, Principal, Right, Role, allows
from phoenix_orch.security.sessions import Session, Sessions
from phoenix_orch.security.tokens import Minted, Token, Tokens
from phoenix_orch.security.two_persons import Approvals

FIRST = "first"
"""Name of the token that is made at the first start."""


class Doorkeeper:
    """Tokens, sessions and approvals. Call it from one event loop."""

    def __init__(
        self,
        layout: Layout,
        recorder: Recorder,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        ended: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`now`: on a clock on the wall. `ended` is told of each credential that lets in no more.

        Raises Terminal where what is kept cannot be read.
        """
        self._layout = layout
        self._recorder = recorder
        self.now = now
        self.ended = ended
        self.provided = False
        """An identity provider lets people in who may approve."""
        self.sessions = Sessions(now)
        self._tokens = Book(layout.tokens, Tokens, Tokens())
        self.approving = Approving(Book(layout.approvals, Approvals, Approvals()), recorder, now=now)

    # -- tokens ------------------------------------------------------------------------------------

    def tokens(self) -> list[Token]:
        """All of them, the newest last."""
        return sorted(self._tokens.held.tokens.values(), key=lambda one: one.created)

    def token(self, name: str) -> Token:
        """Raises NotFound."""
        found = self._tokens.held.tokens.get(name)
        if found is None:
            raise NotFound(f"there is no token {name!r}", remedy="`phoenix token list` shows all ids")
        return found

    async def known_by(self, text: str) -> Token | None:
        """The token that lets in with this text, which is used now; None where none does."""
        now = self.now()
        token = tokens.found(self._tokens.held.tokens, text, now)
        if token is not None and tokens.is_due(token, now):
            # Of no account where the disk is full: whoever has a token gets in all the same.
            with contextlib.suppress(PhoenixError):
                await self._tokens.change(lambda held: (_changed(held, token.id, last_used=now), None))
        return token

    async def create(
        self, name: str, grants: tuple[Grant, ...], *, by: Principal, lasting: timedelta | None
    ) -> Minted:
        """A new token, recorded and kept before it is told. Raises Invalid when there are too many."""
        minted = tokens.mint(name, grants, maker=by.person, now=self.now(), lasting=lasting)
        after = _told(minted.token)
        async with self._recorder.acting("token.create", f"token/{minted.token.id}", after=after):
            await self._tokens.change(lambda held: (_added(held, minted.token), None))
        return minted

    async def planned(
        self, name: str, grants: tuple[Grant, ...], *, by: Principal, lasting: timedelta | None
    ) -> Minted:
        """As `create`, and nothing is kept: its text lets nobody in."""
        return tokens.mint(name, grants, maker=by.person, now=self.now(), lasting=lasting)

    async def revoke(self, name: str, *, by: Principal, reason: str) -> Token:
        """It lets nobody in from now on, and ends what it was used for.

        The last one that administers takes two persons, unless the owner of the data directory asks.
        Raises NotFound, BadState where it is revoked already, NeedsSecond.
        """
        token = self.revocable(name)
        if by.kind is not Kind.USER and tokens.last_admin(self._tokens.held.tokens, name, self.now()):
            await self.approving.second_person("token.revoke", f"token/{name}", by=by, reason=reason)
        asked = self._recorder.acting("token.revoke", f"token/{name}", reason=reason, before=_told(token))
        async with asked:
            now = self.now()
            await self._tokens.change(lambda held: (_changed(held, name, revoked=now), None))
            self._end(f"token:{name}")
        return self.token(name)

    def revocable(self, name: str) -> Token:
        """The token, when it can be revoked. Raises NotFound, BadState."""
        token = self.token(name)
        if token.revoked is not None:
            raise BadState(f"token {name} is revoked already", remedy="there is nothing left to do")
        return token

    async def make_first(self) -> Path | None:
        """A token that administers, in a file for the owner alone; None where tokens were made before."""
        if self._tokens.held.tokens:
            return None
        owner = Principal(name_of(os.getuid()), Kind.USER)
        minted = await self.create(FIRST, (Grant(Role.ADMIN),), by=owner, lasting=None)
        try:
            write_whole(self._layout.first_token, minted.text + "\n")
        except OSError as error:
            raise Invalid(
                f"{self._layout.first_token} cannot be written: {error.strerror}", remedy="mend that"
            ) from error
        return self._layout.first_token

    # -- sessions ----------------------------------------------------------------------------------

    def stands(self, credential: str) -> bool:
        """It was not ended, or there is none to end."""
        return not credential or self.token(credential.removeprefix("token:")).lets_in(self.now())

    def log_in(self, principal: Principal, *, credential: str) -> tuple[str, Session]:
        """(name for the cookie, session). `credential`: what it ends with; empty: nothing."""
        until = self.token(credential.removeprefix("token:")).expires if credential else None
        name, session = self.sessions.begin(principal, credential=credential, until=until)
        self._recorder.note("session.begin", f"session/{session.key[:12]}", actor=principal.name)
        return name, session

    def log_out(self, session: Session) -> None:
        """It lets nobody in from now on, and its streams end."""
        self.sessions.end(session)
        self.ended(f"session:{session.key}")
        self._recorder.note("session.end", f"session/{session.key[:12]}", actor=session.principal.name)

    def _end(self, credential: str) -> None:
        self.ended(credential)
        for session in self.sessions.end_of(credential):
            self.ended(f"session:{session.key}")

    def others(self, by: Principal) -> bool:
        """Whether somebody else may approve what this person asks for."""
        now = self.now()
        return self.provided or any(
            token.lets_in(now)
            and token.maker != by.person
            and allows(token.principal, Right.APPROVE, EMBEDDED)
            for token in self._tokens.held.tokens.values()
        )


def _added(held: Tokens, token: Token) -> Tokens:
    if len(held.tokens) >= tokens.MOST_TOKENS:
        spare = [one for one in held.tokens.values() if one.revoked is not None]
        if not spare:
            raise Invalid(
                f"there are {tokens.MOST_TOKENS} tokens already", remedy="revoke some that nobody uses"
            )
        oldest = min(spare, key=lambda one: one.created)
        held = Tokens(tokens={name: one for name, one in held.tokens.items() if name != oldest.id})
    return Tokens(tokens={**held.tokens, token.id: token})


def _changed(held: Tokens, name: str, **changed: datetime) -> Tokens:
    token = held.tokens.get(name)
    if token is None:
        return held
    return Tokens(tokens={**held.tokens, name: token.model_copy(update=changed)})


def _told(token: Token) -> dict[str, object]:
    """For the audit log: whom it lets in where, and nothing that lets in."""
    return {
        "name": token.name,
        "grants": [f"{grant.role.value} in {grant.namespace}" for grant in token.grants],
        "expires": token.expires.isoformat() if token.expires else None,
        "maker": token.maker,
    }
