"""The plan for one revision: where it leads, and what it never does on the way."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from phoenix_orch.workload.plan import Member, plan
from phoenix_orch.workload.workload import InstanceState

STATES = list(InstanceState)


@st.composite
def members(draw: st.DrawFn) -> list[Member]:
    count = draw(st.integers(0, 8))
    return [
        Member(
            name=f"i{ordinal}",
            ordinal=ordinal,
            state=(state := draw(st.sampled_from(STATES))),
            retiring=draw(st.booleans()),
            leaving=draw(st.booleans()) and state is InstanceState.DRAINING,
        )
        for ordinal in range(count)
    ]


def carried_out(now: list[Member], wanted: int) -> tuple[list[Member], bool]:
    """`now` with the plan for it carried out, and whether there was anything to do."""
    todo = plan(now, wanted)
    following = []
    for member in now:
        if member.name in todo.drain:
            following.append(replace(member, state=InstanceState.DRAINING))
        elif member.name in todo.revive:
            following.append(replace(member, state=InstanceState.READY))
        else:
            following.append(member)
    first = max((member.ordinal for member in now), default=-1) + 1
    following += [Member(f"i{n}", n, InstanceState.STARTING) for n in range(first, first + todo.start)]
    return following, todo != type(todo)()


@given(members(), st.integers(0, 6))
def test_it_ends_with_exactly_what_is_wanted(now: list[Member], wanted: int) -> None:
    """When everything started becomes ready and everything drained leaves, replacement comes to an end."""
    for _ in range(100):
        now, acted = carried_out(now, wanted)
        settled = not any(m.draining or not m.ready for m in now)
        now = [replace(m, state=InstanceState.READY) for m in now if not m.draining]
        if not acted and settled:
            break
    else:
        raise AssertionError(f"no end: {now}")
    assert len(now) == wanted
    assert not any(m.retiring for m in now)


@given(members(), st.integers(0, 6))
def test_a_plan_names_each_at_most_once_and_only_those_that_can_follow_it(
    now: list[Member], wanted: int
) -> None:
    todo = plan(now, wanted)
    by_name = {member.name: member for member in now}
    assert len(set(todo.drain)) == len(todo.drain)
    assert len(set(todo.revive)) == len(todo.revive)
    assert not any(by_name[name].draining for name in todo.drain)
    assert all(by_name[name].draining for name in todo.revive)
    assert not any(by_name[name].leaving or by_name[name].retiring for name in todo.revive)
    assert not (todo.drain and (todo.start or todo.revive))


@given(members(), st.integers(1, 6))
def test_there_are_never_more_than_one_above_what_is_wanted(now: list[Member], wanted: int) -> None:
    before = sum(not member.draining for member in now)
    following, _ = carried_out(now, wanted)
    staying = [member for member in following if not member.draining]
    assert len(staying) <= max(before, wanted + 1)
    if not any(member.retiring for member in now if not member.draining):
        assert len(staying) == wanted


@given(members(), st.integers(1, 6))
def test_draining_never_leaves_fewer_ready_than_wanted(now: list[Member], wanted: int) -> None:
    ready = sum(member.ready for member in now)
    following, _ = carried_out(now, wanted)
    assert sum(member.ready for member in following) >= min(ready, wanted)


@given(members(), st.integers(0, 6))
def test_a_plan_that_was_carried_out_is_not_asked_for_again(now: list[Member], wanted: int) -> None:
    """Without any progress of the instances the plans come to rest: no start after start."""
    for _ in range(20):
        now, acted = carried_out(now, wanted)
        if not acted:
            return
    raise AssertionError(f"no rest: {now}")
