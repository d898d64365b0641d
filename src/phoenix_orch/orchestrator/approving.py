"""What destroys waits for a second person: the rules of `security/two_persons.py` on a book that is kept.

The book is a file of one machine, or the store of a cluster; whoever asks, answers and acts may each do it at
another replica.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Protocol, TypeVar

from phoenix_orch.kernel.errors import BadState
from phoenix_orch.kernel.ids import sortable_id
from phoenix_orch.security import two_persons
from phoenix_orch.security.recorder import Recorder
from phoenix_orch.security.rights import Principal
from phoenix_orch.security.two_persons import Approval, Approvals

T = TypeVar("T")


class NeedsSecond(BadState):
    """An act that destroys waits for a second person."""

    code = "needs_second_person"


class ApprovalBook(Protocol):
    async def read(self) -> Approvals:
        """What is held. Raises Retryable, Terminal."""
        ...

    async def change(self, how: Callable[[Approvals], tuple[Approvals, T]]) -> T:
        """Hold what `how` makes of what is held; its second value is for the caller.

        `how` may be called again where somebody else was quicker. Raises Retryable where it cannot be
        written, and what `how` raises.
        """
        ...


class Approving:
    """Asks and answers."""

    def __init__(self, book: ApprovalBook, recorder: Recorder, *, now: Callable[[], datetime]) -> None:
        """`now`: on a clock on the wall."""
        self._book = book
        self._recorder = recorder
        self._now = now

    async def approvals(self) -> list[Approval]:
        """All that are remembered, the newest last."""
        return list((await self._book.read()).at(self._now()).approvals.values())

    async def approval(self, name: str) -> Approval:
        """Raises NotFound."""
        return two_persons.named(await self._book.read(), name, self._now())

    async def second_person(self, action: str, target: str, *, by: Principal, reason: str) -> None:
        """Return when a second person has agreed to exactly this; that is used up with it.

        Raises NeedsSecond where nobody has yet: somebody is asked from then on.
        """
        now = self._now()
        used = await self._book.change(lambda held: two_persons.use(held, action, target, by=by, now=now))
        if used is not None:
            told: dict[str, object] = {"action": action, "target": target}
            self._recorder.note("approval.use", f"approval/{used.id}", after=told)
            return
        asked = await self._book.change(
            lambda held: two_persons.ask(
                held, sortable_id(now), action, target, by=by, reason=reason, now=now
            )
        )
        self._recorder.note("approval.ask", f"approval/{asked.id}", reason=reason, after=_asked(asked))
        raise NeedsSecond(
            f"{action} of {target} destroys something and takes a second person",
            remedy=f"somebody else has to say `phoenix approval approve {asked.id}` within 15 minutes; "
            "then ask for it again",
        )

    async def answer(self, name: str, *, by: Principal, agrees: bool, words: str) -> Approval:
        """Raises NotFound, BadState, and Forbidden for who asked."""
        verb = "approve" if agrees else "refuse"
        before = await self.approval(name)
        asked = self._recorder.acting(
            f"approval.{verb}", f"approval/{name}", reason=words, before=_asked(before)
        )
        async with asked:
            now = self._now()
            return await self._book.change(
                lambda held: two_persons.answer(held, name, by=by, agrees=agrees, words=words, now=now)
            )

    async def foreseen(self, name: str, *, by: Principal, agrees: bool, words: str) -> Approval:
        """What `answer` would make of it. Raises the same."""
        held = await self._book.read()
        return two_persons.answer(held, name, by=by, agrees=agrees, words=words, now=self._now())[1]


def _asked(one: Approval) -> dict[str, object]:
    return {"action": one.action, "target": one.target, "askedBy": one.asked_by, "state": one.state.value}
