"""What people said about freezes: those they began, and those they set aside for one revision. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated

from pydantic import Field

from phoenix_orch.kernel.errors import BadState, NotFound
from phoenix_orch.kernel.told import Told
from phoenix_orch.rollout.freezes import Freeze
from phoenix_orch.rollout.spec import Model, Name

MOST_BY_HAND = 100
"""Freezes of people at once."""


class StartedFreeze(Model):
    """A freeze that a person began, and when."""

    freeze: Freeze
    by: str
    at: datetime


class Override(Model):
    """A person's word that one revision of a rollout waits for no freeze."""

    rollout: str
    revision: str
    by: str
    at: datetime
    reason: Told


class Said(Model):
    """Everything of it."""

    freezes: Annotated[tuple[StartedFreeze, ...], Field(max_length=MOST_BY_HAND)] = ()
    overrides: tuple[Override, ...] = ()
    """The last one of each rollout."""


def started(said: Said, new: StartedFreeze, declared: Iterable[Freeze]) -> Said:
    """With one more, and without those that are over. Raises BadState for a name that is taken."""
    kept = tuple(one for one in said.freezes if not _over(one.freeze, new.at))
    taken = {one.freeze.name for one in kept} | {one.name for one in declared}
    if new.freeze.name in taken:
        raise BadState(
            f"there is a freeze {new.freeze.name!r} already",
            remedy="phoenix freeze list; give another --name",
        )
    if len(kept) >= MOST_BY_HAND:
        raise BadState(f"there are {MOST_BY_HAND} freezes already", remedy="end those that are not needed")
    return said.model_copy(update={"freezes": (*kept, new)})


def ended(said: Said, name: Name, declared: Iterable[Freeze]) -> tuple[Said, StartedFreeze]:
    """Without the freeze of this name, and the freeze. Raises NotFound, BadState for one of a file."""
    for one in said.freezes:
        if one.freeze.name == name:
            kept = tuple(other for other in said.freezes if other is not one)
            return said.model_copy(update={"freezes": kept}), one
    if name in {one.name for one in declared}:
        raise BadState(
            f"freeze {name!r} is in the configuration",
            remedy="take it out there and apply that; or `phoenix freeze override ROLLOUT` for one release",
        )
    known = ", ".join(one.freeze.name for one in said.freezes) or "none"
    raise NotFound(f"there is no freeze {name!r}", remedy=f"freezes that a person began: {known}")


def overridden(said: Said, new: Override) -> Said:
    """With this word in place of an earlier one about the same rollout."""
    kept = tuple(one for one in said.overrides if one.rollout != new.rollout)
    return said.model_copy(update={"overrides": (*kept, new)})


def thawed(said: Said) -> dict[str, str]:
    """The revision of each rollout that waits for no freeze."""
    return {one.rollout: one.revision for one in said.overrides}


def _over(freeze: Freeze, now: datetime) -> bool:
    return freeze.window(now) is None and freeze.following(now) is None
