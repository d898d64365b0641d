"""Rollouts that are released together: in order, so many at once, and not after one that failed. Pure.

What waits is the beginning of a release. Nothing here keeps one from ending or from being taken back, and a
return to an earlier revision waits for nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from phoenix_orch.rollout.spec import Model, Name, distinct
from phoenix_orch.rollout.status import RESTING, CommandKind, Obstacle, Rollout, State

MEMBERS = 200
"""Rollouts of one group at most."""
Names = Annotated[tuple[Name, ...], Field(max_length=MEMBERS)]


class Group(Model):
    """Some rollouts, and how their releases stand to each other."""

    name: Name
    """Shown wherever a release waits for it."""
    rollouts: Names = ()
    """Its members; those in `order` need not be repeated."""
    order: Annotated[tuple[Names, ...], Field(max_length=MEMBERS)] = ()
    """Stages: a release of one begins when none of an earlier stage waits or is under way."""
    max_concurrent: Annotated[int, Field(ge=1)] | None = None
    """Releases that are under way at once, their bakes among them; left out: any number."""
    on_failure: Literal["stop", "continue"] = "stop"
    """Whether a release that was taken back holds those of later stages."""

    @property
    def members(self) -> tuple[str, ...]:
        """All of them, those with an order first."""
        staged = [name for stage in self.order for name in stage]
        return (*staged, *(name for name in self.rollouts if name not in staged))

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        distinct(self.rollouts, "rollouts of a group")
        distinct((name for stage in self.order for name in stage), "rollouts in the order of a group")
        if not self.members:
            raise ValueError("a group without rollouts holds nothing")
        return self

    def before(self, rollout: str) -> tuple[str, ...]:
        """The rollouts of earlier stages; none of one that is in no stage."""
        earlier: list[str] = []
        for stage in self.order:
            if rollout in stage:
                return tuple(earlier)
            earlier += stage
        return ()


class Standing(StrEnum):
    """All that a group has to know of a rollout."""

    AT_REST = "atRest"  # what is wanted serves
    WAITING = "waiting"  # another revision is wanted, and its release has not begun
    UNDER_WAY = "underWay"  # a release, a bake or a rollback
    FAILED = "failed"  # taken back, and still wanted


def standing(rollout: Rollout) -> Standing:
    status = rollout.status
    if status.state is State.INITIALIZING:
        return Standing.AT_REST
    if status.state not in RESTING:
        return Standing.UNDER_WAY
    if rollout.target == status.stable:
        return Standing.AT_REST
    if status.state is State.ROLLED_BACK and rollout.target == status.canary:
        retried = any(command.kind is CommandKind.RETRY for command in rollout.commands)
        return Standing.WAITING if retried else Standing.FAILED
    return Standing.WAITING


def may_start(groups: Iterable[Group], states: Mapping[str, Standing], rollout: str) -> Obstacle | None:
    """Why a release of `rollout` may not begin yet; None: it may.

    `states` of all rollouts; one that is missing is at rest.
    """
    for group in groups:
        if rollout in group.members and (found := _held_by(group, states, rollout)) is not None:
            return found
    return None


def _held_by(group: Group, states: Mapping[str, Standing], rollout: str) -> Obstacle | None:
    def among(names: Iterable[str], *kinds: Standing) -> list[str]:
        return [name for name in names if name != rollout and states.get(name) in kinds]

    earlier = group.before(rollout)
    if group.on_failure == "stop" and (failed := among(earlier, Standing.FAILED)):
        return Obstacle(
            reason="GroupStopped",
            message=f"group {group.name}: {_listed(failed)} was rolled back, which holds what comes after; "
            f"retry it, release a mended version, or take it out of what is wanted",
        )
    if pending := among(earlier, Standing.WAITING, Standing.UNDER_WAY):
        return Obstacle(
            reason="GroupOrder", message=f"group {group.name}: {_listed(pending)} is released first"
        )
    under_way = among(group.members, Standing.UNDER_WAY)
    if group.max_concurrent is not None and len(under_way) >= group.max_concurrent:
        return Obstacle(
            reason="GroupFull",
            message=f"group {group.name}: at most {group.max_concurrent} at once, "
            f"and {_listed(under_way)} is under way",
        )
    return None


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def circle(groups: Iterable[Group]) -> tuple[str, ...]:
    """Rollouts that would wait for each other for ever, by the orders of all groups together; empty: none."""
    try:
        TopologicalSorter(_earlier(groups)).prepare()
    except CycleError as error:
        return tuple(error.args[1])
    return ()


def in_order(groups: Iterable[Group], rollouts: Sequence[str]) -> list[str]:
    """The rollouts, each after those of earlier stages, else as they are given: what is asked for in this
    order never looks for a moment as if nothing came before it. Raises CycleError where there is a circle."""
    earlier = {name: names & set(rollouts) for name, names in _earlier(groups).items()}
    return list(TopologicalSorter({name: earlier.get(name, ()) for name in rollouts}).static_order())


def _earlier(groups: Iterable[Group]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for group in groups:
        for name in group.members:
            found.setdefault(name, set()).update(group.before(name))
    return found
