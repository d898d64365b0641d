"""What lets a release begin: freezes and groups, as they are known now.

The decisions are pure (`freezes`, `groups`). This remembers what they cannot see: a release that was let
through a moment ago, and is in no record yet. One process leads, so that nobody else lets any through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from phoenix_orch.rollout import freezes, groups
from phoenix_orch.rollout.freezes import Freeze
from phoenix_orch.rollout.groups import Group, Standing, standing
from phoenix_orch.rollout.status import CommandKind, Obstacle, Rollout

UNKNOWN = Obstacle(
    reason="FreezesUnknown", message="whether there is a freeze is not known yet; nothing begins before that"
)


@dataclass(frozen=True, slots=True)
class Rules:
    """What was said about when releases may begin."""

    freezes: tuple[Freeze, ...] = ()
    groups: tuple[Group, ...] = ()
    overrides: Mapping[str, str] = field(default_factory=dict)
    """The revision of each rollout that no freeze holds, by a person's word."""

    def thaw(self, rollout: Rollout) -> bool:
        """A person has said that this revision is not to wait for a freeze."""
        return self.overrides.get(rollout.name) == rollout.target


class Gate(Protocol):
    """Asked in every pass, so that it answers from memory: an abort waits for nothing (R2)."""

    def concerns_others(self, rollout: str) -> bool:
        """Whether `hold` has to know of other rollouts."""
        ...

    def hold(self, rollout: Rollout, others: Iterable[Rollout], now: datetime) -> Obstacle | None:
        """Why its release may not begin now. None: it may, and counts as under way from here on."""
        ...

    def halt(self, rollout: Rollout, now: datetime) -> Obstacle | None:
        """Why a release that is under way gets no more weight now."""
        ...

    def saw(self, rollout: Rollout) -> None:
        """What was decided of it is written."""
        ...

    def forget(self, name: str) -> None:
        """The rollout was removed."""
        ...


def wants_to_begin(rollout: Rollout) -> bool:
    """A release would begin at the next pass, or a person wants one that was taken back again."""
    status = rollout.status
    retried = any(command.kind is CommandKind.RETRY for command in rollout.commands)
    return retried or rollout.target not in {status.stable, status.canary}


class RulesGate:
    """The gate by rules that may change at any time."""

    def __init__(self, rules: Callable[[], Rules | Obstacle]) -> None:
        """`rules`: as they are known now, or why they are not known. It asks nobody."""
        self._rules = rules
        self._let_through: set[str] = set()

    def concerns_others(self, rollout: str) -> bool:
        rules = self._rules()
        return isinstance(rules, Rules) and any(rollout in group.members for group in rules.groups)

    def hold(self, rollout: Rollout, others: Iterable[Rollout], now: datetime) -> Obstacle | None:
        rules = self._rules()
        found = self._held(rules, rollout, others, now) if isinstance(rules, Rules) else rules
        if found is None:
            self._let_through.add(rollout.name)
        else:
            self._let_through.discard(rollout.name)
        return found

    def _held(
        self, rules: Rules, rollout: Rollout, others: Iterable[Rollout], now: datetime
    ) -> Obstacle | None:
        found = freezes.frozen(rules.freezes, rollout.name, now)
        if found is not None and not rules.thaw(rollout):
            return freezes.obstacle(found, rollout.name)
        states = {one.name: standing(one) for one in others}
        states |= dict.fromkeys(self._let_through, Standing.UNDER_WAY)
        return groups.may_start(rules.groups, states, rollout.name)

    def halt(self, rollout: Rollout, now: datetime) -> Obstacle | None:
        rules = self._rules()
        if not isinstance(rules, Rules) or rules.thaw(rollout):
            return None
        found = freezes.paused(rules.freezes, rollout.name, now)
        return freezes.obstacle(found, rollout.name) if found is not None else None

    def saw(self, rollout: Rollout) -> None:
        self._let_through.discard(rollout.name)

    def forget(self, name: str) -> None:
        self._let_through.discard(name)


def open_gate() -> RulesGate:
    """Holds nothing."""
    return RulesGate(Rules)
