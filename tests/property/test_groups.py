"""Groups of rollouts: never more at once than is allowed, in order, without a deadlock."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.unit.rollout_setting import T0

from phoenix_orch.rollout.gate import Rules, RulesGate
from phoenix_orch.rollout.groups import Group, Standing, circle, in_order, may_start, standing
from phoenix_orch.rollout.status import RESTING, Command, CommandKind, Rollout, State, Status

NAMES = ("a", "b", "c", "d", "e")


@st.composite
def groups(draw: st.DrawFn) -> tuple[Group, ...]:
    """Up to three groups whose orders do not contradict each other."""
    found = []
    for number in range(draw(st.integers(1, 3))):
        members = draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=1))
        staged = members[: draw(st.integers(0, len(members)))]
        cuts = draw(st.lists(st.integers(1, max(1, len(staged))), max_size=2))
        edges = sorted({0, *(cut for cut in cuts if cut < len(staged)), len(staged)})
        order = tuple(tuple(staged[a:b]) for a, b in pairwise(edges) if b > a)
        found.append(
            Group(
                name=f"g{number}",
                rollouts=tuple(members),
                order=order,
                max_concurrent=draw(st.none() | st.integers(1, 3)),
                on_failure=draw(st.sampled_from(["stop", "continue"])),
            )
        )
    assume(not circle(found))
    return tuple(found)


def rollout(name: str, state: State = State.IDLE, *, target: str = "new") -> Rollout:
    canary = "new" if state not in RESTING - {State.ROLLED_BACK} else None
    return Rollout(
        name=name,
        service=name,
        route=name,
        target=target,
        status=Status(state=state, stable="old", canary=canary),
    )


@dataclass
class Fleet:
    """Rollouts that begin where the gate lets them, and what is true of them at every moment."""

    groups: tuple[Group, ...]
    every: dict[str, Rollout]

    def __post_init__(self) -> None:
        self.gate = RulesGate(lambda: Rules(groups=self.groups))

    def ask(self, name: str) -> bool:
        """A pass of a rollout that may want to begin, decided and not written yet."""
        one = self.every[name]
        return standing(one) is Standing.WAITING and self.gate.hold(one, self.every.values(), T0) is None

    def write(self, name: str, state: State) -> None:
        self.every[name] = rollout(name, state)
        self.gate.saw(self.every[name])

    def check(self) -> None:
        now = {name: standing(one) for name, one in self.every.items()}
        for group in self.groups:
            busy = [name for name in group.members if now.get(name) is Standing.UNDER_WAY]
            assert group.max_concurrent is None or len(busy) <= group.max_concurrent
            for name in busy:
                earlier = {now.get(other, Standing.AT_REST) for other in group.before(name)}
                assert not earlier & {Standing.UNDER_WAY, Standing.WAITING}
                assert group.on_failure == "continue" or Standing.FAILED not in earlier


@given(groups(), st.data())
@settings(max_examples=150)
def test_never_more_than_allowed_and_in_order_whatever_happens_between_a_decision_and_its_record(
    rules: tuple[Group, ...], data: st.DataObject
) -> None:
    fleet = Fleet(rules, {name: rollout(name) for name in NAMES})
    through: list[str] = []
    for _ in range(25):
        name = data.draw(st.sampled_from(NAMES))
        state = fleet.every[name].status.state
        if name in through:
            through.remove(name)
            fleet.write(name, State.PROGRESSING)
        elif state is State.PROGRESSING:
            fleet.write(name, data.draw(st.sampled_from([State.PROMOTED, State.ROLLED_BACK])))
            if fleet.every[name].status.state is State.PROMOTED:
                fleet.every[name] = rollout(name, State.PROMOTED, target="old")
        elif fleet.ask(name):
            through.append(name)
        fleet.check()


@given(groups())
@settings(max_examples=150)
def test_without_a_failure_every_release_comes_to_its_turn(rules: tuple[Group, ...]) -> None:
    fleet = Fleet(rules, {name: rollout(name) for name in NAMES})
    for _ in range(len(NAMES)):
        begun = [name for name in NAMES if fleet.ask(name)]
        assert begun or all(standing(one) is Standing.AT_REST for one in fleet.every.values())
        for name in begun:
            fleet.write(name, State.PROGRESSING)
        fleet.check()
        for name in begun:
            fleet.write(name, State.PROMOTED)
            fleet.every[name] = rollout(name, State.PROMOTED, target="old")
    assert all(standing(one) is Standing.AT_REST for one in fleet.every.values())


@given(groups())
@settings(max_examples=100)
def test_what_is_written_in_order_never_overtakes(rules: tuple[Group, ...]) -> None:
    names = in_order(rules, NAMES)
    assert sorted(names) == sorted(NAMES)
    for group in rules:
        for name in group.members:
            assert all(names.index(other) < names.index(name) for other in group.before(name))


def test_one_that_was_taken_back_holds_what_comes_after_until_it_is_mended() -> None:
    group = Group(name="shop", order=(("a",), ("b",)))
    states = {"a": Standing.FAILED, "b": Standing.WAITING}
    held = may_start([group], states, "b")
    assert held is not None
    assert held.reason == "GroupStopped"
    assert "a" in held.message
    assert may_start([group], states | {"a": Standing.AT_REST}, "b") is None
    lenient = group.model_copy(update={"on_failure": "continue"})
    assert may_start([lenient], states, "b") is None
    assert may_start([group], states, "a") is None


def test_a_retry_counts_as_waiting() -> None:
    failed = rollout("a", State.ROLLED_BACK)
    assert standing(failed) is Standing.FAILED
    retry = Command(id="c", kind=CommandKind.RETRY, actor="ada", at=T0)
    assert standing(failed.model_copy(update={"commands": (retry,)})) is Standing.WAITING


def test_orders_that_contradict_each_other_are_found() -> None:
    one = Group(name="one", order=(("a",), ("b",)))
    two = Group(name="two", order=(("b",), ("c",), ("a",)))
    assert set(circle([one, two])) >= {"a", "b"}
    assert circle([one]) == ()


@pytest.mark.parametrize(
    "fields",
    [{}, {"rollouts": ("a", "a")}, {"order": (("a",), ("a",))}, {"rollouts": ("a",), "max_concurrent": 0}],
)
def test_what_is_no_group_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Group(name="shop", **fields)  # type: ignore[arg-type]
