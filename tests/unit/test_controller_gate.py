"""The controller asks the gate before a release begins, and lets no more through than may begin."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

import pytest
from tests.unit.controller_setting import World, revision

from phoenix_orch.health_validator.observation import Verdict, VerdictKind
from phoenix_orch.kernel.errors import Retryable
from phoenix_orch.rollout.freezes import Freeze
from phoenix_orch.rollout.gate import UNKNOWN, Gate, Rules, RulesGate
from phoenix_orch.rollout.groups import Group, Standing, standing
from phoenix_orch.rollout.status import CommandKind, Obstacle, Rollout, State

NAMES = ("shop", "bank", "mail")


class Gated(World):
    """A controller whose rules the test can change."""

    def __init__(self, rules: Rules) -> None:
        self.rules: Rules | Obstacle = rules
        super().__init__()

    def gate(self) -> Gate:
        return RulesGate(lambda: self.rules)

    async def serve(self, names: Iterable[str]) -> None:
        for name in names:
            await self.create(name)
        for _ in range(20):
            await self.passes()

    async def standings(self) -> dict[str, Standing]:
        return {one.name: standing(one) for one in await self.store.rollouts()}


async def test_a_freeze_holds_a_new_version_until_it_ends_and_then_it_begins_by_itself() -> None:
    frozen = Rules(freezes=(Freeze(name="peak"),))
    world = Gated(Rules())
    await world.serve(["shop"])
    world.rules = frozen
    await world.want("2")
    await world.passes(5)
    status = await world.status()
    assert (status.state, status.release) == (State.IDLE, 0)
    assert status.obstacle is not None
    assert status.obstacle.reason == "Frozen"
    assert [event.reason for event in await world.store.events("shop")].count("Waiting") == 1
    world.rules = Rules()
    assert (await world.until(State.PROGRESSING)).obstacle is None


async def test_an_override_lets_one_revision_through_and_not_the_next() -> None:
    freezes = (Freeze(name="peak"),)
    world = Gated(Rules(freezes=freezes))
    await world.serve(["shop"])
    await world.want("2")
    await world.passes(3)
    world.rules = Rules(freezes=freezes, overrides={"shop": revision("2")})
    await world.until(State.PROGRESSING)
    await world.say(CommandKind.ABORT)
    await world.until(State.ROLLED_BACK)
    await world.want("3")
    await world.passes(5)
    assert (await world.status()).state is State.ROLLED_BACK


async def test_nothing_begins_before_the_rules_are_known_and_what_is_under_way_goes_on() -> None:
    world = Gated(Rules())
    await world.serve(["shop"])
    await world.want("2")
    await world.until(State.PROGRESSING)
    world.rules = UNKNOWN
    await world.until(State.PROMOTED, advance=True)
    await world.want("3")
    await world.passes(5)
    status = await world.status()
    assert status.state is State.PROMOTED
    assert status.obstacle is not None
    assert status.obstacle.reason == "FreezesUnknown"


async def test_of_many_that_are_wanted_at_once_only_so_many_are_under_way() -> None:
    world = Gated(Rules(groups=(Group(name="all", rollouts=NAMES, max_concurrent=1),)))
    await world.serve(NAMES)
    for name in NAMES:
        await world.want("2", name=name)
    done: set[str] = set()
    for _ in range(800):
        await world.passes()
        standings = await world.standings()
        under_way = [name for name, one in standings.items() if one is Standing.UNDER_WAY]
        assert len(under_way) <= 1
        done |= {name for name, one in standings.items() if one is Standing.AT_REST}
        if done == set(NAMES):
            return
        for name in under_way:
            await judge(world, name)
    pytest.fail(f"only {done} came through")


async def test_a_store_that_goes_away_lets_nothing_begin_that_has_to_wait_for_others() -> None:
    world = Gated(Rules(groups=(Group(name="all", rollouts=NAMES, max_concurrent=1),)))
    await world.serve(NAMES)
    await world.want("2")

    async def away() -> list[Rollout]:
        raise Retryable("the store does not answer")

    there = world.store.rollouts
    world.store.rollouts = away  # type: ignore[method-assign]
    await world.controller.reconcile("shop")
    world.store.rollouts = there  # type: ignore[method-assign]
    status = await world.status()
    assert status.state is State.IDLE
    assert status.obstacle is not None
    assert status.obstacle.reason == "GroupUnknown"
    await world.until(State.PROGRESSING)


async def judge(world: World, name: str) -> None:
    """Everything is in order with what is judged."""
    status = await world.status(name)
    judged = status.stable if status.state is State.BAKING else status.canary
    at = world.clock.now() + timedelta(milliseconds=1)
    verdict = Verdict(
        kind=VerdictKind.ADVANCE, revision=judged or "", step=status.step, at=at, reason="advance"
    )
    await world.store.put_verdict(name, verdict, "")
