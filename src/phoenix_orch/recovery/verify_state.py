"""What a look at a state has found: part by part, and in all. Pure.

Exit status as every command has it: 0 whole, 1 a part is not whole, 3 a part could not be looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from phoenix_orch.rollout.spec import Model


class PartState(StrEnum):
    WHOLE = "whole"
    BROKEN = "broken"
    """It is there, and not as it has to be."""
    UNKNOWN = "unknown"
    """It could not be looked at: that is no sign that it is whole."""
    ABSENT = "absent"
    """It is not there and need not be."""


class Part(Model):
    """One part of a state."""

    name: str
    state: PartState
    detail: str
    """What was found, for a person."""
    remedy: str = ""
    """What to do about it; empty where nothing is to be done."""


class StateReport(Model):
    """The state of one Phoenix, or of one application."""

    whole: bool
    """Every part that is there was looked at, and is whole, and there is one at least."""
    parts: tuple[Part, ...]

    @property
    def exit_status(self) -> int:
        states = {part.state for part in self.parts}
        if PartState.BROKEN in states:
            return 1
        return 0 if self.whole else 3


def reported(parts: Sequence[Part]) -> StateReport:
    states = [part.state for part in parts]
    good = {PartState.WHOLE, PartState.ABSENT}
    return StateReport(whole=set(states) <= good and PartState.WHOLE in states, parts=tuple(parts))
