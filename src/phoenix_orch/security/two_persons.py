"""What destroys takes two persons: one who asks, and another who agrees within a time. Pure.

    asked ──approve──▶ approved ──use──▶ used
      ├──refuse──▶ refused        └─(time)─▶ expired
      └──(time)──▶ expired

An approval is for one act on one target as it was asked, and for whoever asked; it is used up by doing it. A
token speaks for the person who made it: nobody agrees with themselves through one.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import AwareDatetime, Field

from phoenix_orch.kernel.errors import BadState, Forbidden, NotFound
from phoenix_orch.rollout.spec import Model
from phoenix_orch.security.rights import Principal

LASTS = timedelta(minutes=15)
"""From the question to the answer, and again from the answer to the act."""
MOST_KEPT = 500
"""Approvals that are remembered; the oldest that wait for nobody go first."""

MOST_ASKED = 50
"""Questions of one person that wait at a time: none is forgotten, and each is written with all others."""


class State(StrEnum):
    ASKED = "asked"
    APPROVED = "approved"
    REFUSED = "refused"
    USED = "used"
    EXPIRED = "expired"


WAITING = frozenset({State.ASKED, State.APPROVED})


class Approval(Model):
    """One question to a second person."""

    id: str
    action: str
    """`noun.verb`, as in the audit log."""
    target: str
    """Kind and name, as in the audit log; with a digest of what else matters."""
    asked_by: str
    """Name of who asked."""
    asker: str
    """The person behind it."""
    reason: str = ""
    asked_at: AwareDatetime
    until: AwareDatetime
    """What is to happen next happens before that."""
    state: State = State.ASKED
    answered_by: str = ""
    answer: str = ""
    """Why it was refused or approved."""

    def at(self, now: datetime) -> Approval:
        """As it stands then: time may have run out."""
        if self.state in WAITING and now >= self.until:
            return self.model_copy(update={"state": State.EXPIRED})
        return self


class Approvals(Model):
    """All that are remembered, by id; in the order in which they were asked."""

    approvals: dict[str, Approval] = Field(default_factory=dict)

    def at(self, now: datetime) -> Approvals:
        return Approvals(approvals={name: one.at(now) for name, one in self.approvals.items()})


def ask(
    known: Approvals,
    name: str,
    action: str,
    target: str,
    *,
    by: Principal,
    reason: str,
    now: datetime,
) -> tuple[Approvals, Approval]:
    """Ask for a second person; the same question of the same person is not asked twice.

    Raises BadState where too many of this person wait already.
    """
    known = known.at(now)
    mine = [one for one in known.approvals.values() if one.state in WAITING and one.asker == by.person]
    for one in mine:
        if (one.action, one.target) == (action, target):
            return known, one
    if len(mine) >= MOST_ASKED:
        raise BadState(
            f"{len(mine)} questions of {by.name} wait for a second person already",
            remedy="take some back (`phoenix approval refuse ID`); each ends by itself within 15 minutes",
        )
    made = Approval(
        id=name,
        action=action,
        target=target,
        asked_by=by.name,
        asker=by.person,
        reason=reason,
        asked_at=now,
        until=now + LASTS,
    )
    return _with(known, made), made


def answer(
    known: Approvals, name: str, *, by: Principal, agrees: bool, words: str, now: datetime
) -> tuple[Approvals, Approval]:
    """Approve or refuse. Who asked may take it back, and never approve it.

    Raises NotFound, BadState where nobody waits for an answer, Forbidden for who asked.
    """
    one = named(known, name, now)
    if one.state is not State.ASKED:
        raise BadState(
            f"approval {name} is {one.state.value}", remedy="only what is asked can be answered; ask again"
        )
    if agrees and by.person == one.asker:
        raise Forbidden(
            f"{by.name} asked for approval {name} and cannot give it",
            remedy="somebody else with the right to approve has to",
        )
    answered = one.model_copy(
        update={
            "state": State.APPROVED if agrees else State.REFUSED,
            "answered_by": by.name,
            "answer": words,
            "until": now + LASTS,
        }
    )
    return _with(known.at(now), answered), answered


def use(
    known: Approvals, action: str, target: str, *, by: Principal, now: datetime
) -> tuple[Approvals, Approval | None]:
    """Use up the approval for exactly this act of this person; None where there is none."""
    known = known.at(now)
    for one in known.approvals.values():
        if one.state is State.APPROVED and (one.action, one.target, one.asker) == (action, target, by.person):
            used = one.model_copy(update={"state": State.USED})
            return _with(known, used), used
    return known, None


def named(known: Approvals, name: str, now: datetime) -> Approval:
    """The approval of that id. Raises NotFound."""
    one = known.approvals.get(name)
    if one is None:
        raise NotFound(f"there is no approval {name!r}", remedy="`phoenix approval list` shows all")
    return one.at(now)


def _with(known: Approvals, one: Approval) -> Approvals:
    kept = {**known.approvals, one.id: one}
    spare = [name for name, other in kept.items() if other.state not in WAITING]
    for name in spare[: max(0, len(kept) - MOST_KEPT)]:
        del kept[name]
    return Approvals(approvals=kept)
