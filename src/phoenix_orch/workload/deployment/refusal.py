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


def refuse(refusals: Sequence[Refusal]) -> None:
    """Raises BadState with all of them, when there are any."""
    if refusals:
        raise BadState(
            "; ".join(one.message for one in refusals),
            remedy="; ".join(dict.fromkeys(one.remedy for one in refusals)),
        )
