"""API tokens: made, known again and revoked; the rules of `security/tokens.py` on a book that is kept.

The book is a file of one machine, or the store of a cluster, where a token counts at every replica.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol, TypeVar

from phoenix_orch.kernel.errors import BadState, Invalid, NotFound, PhoenixError
from phoenix_orch.orchestrator.approving import Approving
from phoenix_orch.orchestrator.book import Book
from phoenix_orch.security import tokens
from phoenix_orch.security.recorder import Recorder
from phoenix_orch.security.rights import EVERYWHERE, Grant, Kind, Principal, held_in
from phoenix_orch.security.tokens import Minted, Token, Tokens

T = TypeVar("T")


class TokenBook(Protocol):
    async def read(self) -> Tokens:
        """All that are held. Raises Retryable, Terminal."""
        ...

    async def one(self, id: str) -> Token | None:  # noqa: A002 - the field's word
        """The token of that id. Raises as `read`."""
        ...

    async def change(self, how: Callable[[Tokens], tuple[Tokens, T]]) -> T:
        """Hold what `how` makes of what is held; its second value is for the caller.

        `how` may be called again where somebody else was quicker. Raises Retryable where it cannot be
        written, and what `how` raises.
        """
        ...

    async def used(self, id: str, at: datetime) -> None:  # noqa: A002
        """Note that it was used then. Raises Retryable where it cannot be written."""
        ...


class FileTokens:
    """Those of one machine, in a file of its data directory."""

    def __init__(self, path: Path) -> None:
        """Raises Terminal where it cannot be read."""
        self._book = Book(path, Tokens, Tokens())

    @property
    def held(self) -> Mapping[str, Token]:
        return self._book.held.tokens

    async def read(self) -> Tokens:
        return self._book.held

    async def one(self, id: str) -> Token | None:  # noqa: A002
        return self.held.get(id)

    async def change(self, how: Callable[[Tokens], tuple[Tokens, T]]) -> T:
        return await self._book.change(how)

    async def used(self, id: str, at: datetime) -> None:  # noqa: A002
        await self._book.change(lambda held: (_changed(held, id, last_used=at), None))


class TokenKeeper:
    """Makes, knows and revokes. Each method raises Retryable where the book cannot be read or written."""

    def __init__(
        self,
        book: TokenBook,
        recorder: Recorder,
        *,
        now: Callable[[], datetime],
        ended: Callable[[str], None],
        second: Approving | None,
        namespace: str = "",
    ) -> None:
        """`now`: on a clock on the wall. `ended` is told of each credential that lets in no more. `second`:
        who is asked about the last token that administers; None: others administer without one.
        `namespace`: the only one that is served; empty: any may be named.
        """
        self._book = book
        self._recorder = recorder
        self.now = now
        self._ended = ended
        self._second = second
        self._namespace = namespace

    async def all(self) -> list[Token]:
        """The newest last."""
        return sorted((await self._book.read()).tokens.values(), key=lambda one: one.created)

    async def token(self, name: str) -> Token:
        """Raises NotFound."""
        found = await self._book.one(name)
        if found is None:
            raise NotFound(f"there is no token {name!r}", remedy="`phoenix token list` shows all ids")
        return found

    async def known_by(self, text: str) -> Token | None:
        """The token that lets in with this text, which is used now; None where none does."""
        named = tokens.named_by(text)
        if named is None:
            return None
        now, there = self.now(), await self._book.one(named[0])
        token = tokens.found({} if there is None else {there.id: there}, text, now)
        if token is not None and tokens.is_due(token, now):
            # Of no account where it cannot be written: whoever has a token gets in all the same.
            with contextlib.suppress(PhoenixError):
                await self._book.used(token.id, now)
        return token

    async def standing(self, name: str) -> Token | None:
        """The token of that id, where it lets in now."""
        token = await self._book.one(name)
        return token if token is not None and token.lets_in(self.now()) else None

    def principal(self, token: Token) -> Principal:
        """Whom it lets in, with what that gives them where this process serves."""
        whole = token.principal
        if not self._namespace:
            return whole
        return Principal(whole.name, whole.kind, held_in(whole.grants, self._namespace), whole.maker)

    async def create(
        self, name: str, grants: tuple[Grant, ...], *, by: Principal, lasting: timedelta | None
    ) -> Minted:
        """A new token, recorded and kept before it is told.

        Raises Invalid when there are too many, and for a namespace that is not served.
        """
        minted = await self.planned(name, grants, by=by, lasting=lasting)
        after = told_of(minted.token)
        async with self._recorder.acting("token.create", f"token/{minted.token.id}", after=after):
            await self._book.change(lambda held: (_added(held, minted.token), None))
        return minted

    async def planned(
        self, name: str, grants: tuple[Grant, ...], *, by: Principal, lasting: timedelta | None
    ) -> Minted:
        """As `create`, and nothing is kept: its text lets nobody in."""
        self._expect_served(grants)
        return tokens.mint(name, grants, maker=by.person, now=self.now(), lasting=lasting)

    def _expect_served(self, grants: tuple[Grant, ...]) -> None:
        for grant in grants:
            if self._namespace and grant.namespace not in (self._namespace, EVERYWHERE):
                raise Invalid(
                    f"namespace {grant.namespace} is not served here, {self._namespace} is",
                    remedy="leave --namespace out, or ask the Phoenix of that namespace",
                )

    async def revoke(self, name: str, *, by: Principal, reason: str) -> Token:
        """It lets nobody in from now on, and ends what it was used for.

        The last one that administers takes two persons where nobody administers without one, unless the
        owner of the data directory asks. Raises NotFound, BadState where it is revoked already, NeedsSecond.
        """
        token = await self.revocable(name)
        if self._second is not None and by.kind is not Kind.USER:
            held = (await self._book.read()).tokens
            if tokens.last_admin(held, name, self.now()):
                await self._second.second_person("token.revoke", f"token/{name}", by=by, reason=reason)
        asked = self._recorder.acting("token.revoke", f"token/{name}", reason=reason, before=told_of(token))
        async with asked:
            now = self.now()
            await self._book.change(lambda held: (_changed(held, name, revoked=now), None))
            self._ended(f"token:{name}")
        return await self.token(name)

    async def revocable(self, name: str) -> Token:
        """The token, when it can be revoked. Raises NotFound, BadState."""
        token = await self.token(name)
        if token.revoked is not None:
            raise BadState(f"token {name} is revoked already", remedy="there is nothing left to do")
        return token


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


def told_of(token: Token) -> dict[str, object]:
    """For the audit log: whom it lets in where, and nothing that lets in."""
    return {
        "name": token.name,
        "grants": [f"{grant.role.value} in {grant.namespace}" for grant in token.grants],
        "expires": token.expires.isoformat() if token.expires else None,
        "maker": token.maker,
    }
