"""A reason not to touch something, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from phoenix_orch.kernel.errors import BadState


@dataclass(frozen=True, slots=True)
class Refusal:
    """Nothing is written while one holds."""

    reason: str
    """CamelCase, for programs and tests; stable."""
    message: str
    remedy: str


class Refused(BadState):
    """Somebody has to change something first. `reason` is that of the first refusal."""

    def __init__(self, *refusals: Refusal, before: str = "") -> None:
        """`before`: what cannot be done, said first."""
        super().__init__(
            before + "; ".join(one.message for one in refusals),
            remedy="; ".join(dict.fromkeys(one.remedy for one in refusals)),
        )
        self.reason = refusals[0].reason


def refuse(refusals: Sequence[Refusal]) -> None:
    """Raises Refused with all of them, when there are any."""
    if refusals:
        raise Refused(*refusals)
