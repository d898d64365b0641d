"""Who gets in by what, and what people agreed to: for one data directory."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.orchestrator.approving import Approving
from phoenix_orch.orchestrator.book import Book
from phoenix_orch.orchestrator.layout import Layout, write_whole
from phoenix_orch.orchestrator.token_keeping import FileTokens, TokenKeeper
from phoenix_orch.runtime.users import name_of
from phoenix_orch.security.recorder import Recorder
from phoenix_orch.security.rights import EMBEDDED, Grant, Kind, Principal, Right, Role, allows
from phoenix_orch.security.sessions import Session, Sessions
from phoenix_orch.security.tokens import Token
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
        self.approving = Approving(Book(layout.approvals, Approvals, Approvals()), recorder, now=now)
        self._book = FileTokens(layout.tokens)
        self.tokens = TokenKeeper(self._book, recorder, now=now, ended=self._end, second=self.approving)

    # -- tokens ------------------------------------------------------------------------------------

    async def make_first(self) -> Path | None:
        """A token that administers, in a file for the owner alone; None where tokens were made before."""
        if self._book.held:
            return None
        owner = Principal(name_of(os.getuid()), Kind.USER)
        minted = await self.tokens.create(FIRST, (Grant(Role.ADMIN),), by=owner, lasting=None)
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
        return not credential or self._token(credential).lets_in(self.now())

    def log_in(self, principal: Principal, *, credential: str) -> tuple[str, Session]:
        """(name for the cookie, session). `credential`: what it ends with; empty: nothing."""
        until = self._token(credential).expires if credential else None
        name, session = self.sessions.begin(principal, credential=credential, until=until)
        self._recorder.note("session.begin", f"session/{session.key[:12]}", actor=principal.name)
        return name, session

    def log_out(self, session: Session) -> None:
        """It lets nobody in from now on, and its streams end."""
        self.sessions.end(session)
        self.ended(f"session:{session.key}")
        self._recorder.note("session.end", f"session/{session.key[:12]}", actor=session.principal.name)

    def _token(self, credential: str) -> Token:
        return self._book.held[credential.removeprefix("token:")]

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
            for token in self._book.held.values()
        )
