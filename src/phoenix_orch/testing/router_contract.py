"""What every TrafficRouter has to do, as checks that need nothing but the router.

    @pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
    async def test_contract(check, my_router):
        await check(my_router)

`CONTRACT` is about the traffic object; `DATA_PLANE` needs a router whose data plane runs. Each check
wants a router of its own, without routes. Backends are named, never called.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from phoenix_orch.kernel.errors import Conflict, Invalid, Latched, NotFound
from phoenix_orch.testing.refusals import refused
from phoenix_orch.traffic.router import Backend, Group, TrafficRouter, TrafficSeen, TrafficState

Check = Callable[[TrafficRouter], Awaitable[None]]

ROUTE = "shop"


def group(revision: str, *ports: int) -> Group:
    """A group with one backend on loopback for each port."""
    backends = tuple(Backend(instance=f"{revision}-{p}", url=f"http://127.0.0.1:{p}") for p in ports)
    return Group(revision=revision, backends=backends)


OLD = group("old", 20001, 20002)
NEW = group("new", 20003)


async def _created(router: TrafficRouter) -> TrafficState:
    return await router.write(TrafficState(route=ROUTE, stable=OLD))


async def _with_canary(router: TrafficRouter, weight: int) -> TrafficState:
    state = await _created(router)
    return await router.write(state.model_copy(update={"canary": NEW, "weight": weight}))


async def unknown_route_is_not_found(router: TrafficRouter) -> None:
    await refused(router.read(ROUTE), NotFound)
    await refused(router.abort(ROUTE, "new"), NotFound)
    await refused(router.clear_latch(ROUTE, "new"), NotFound)


async def version_0_creates_and_nothing_else_does(router: TrafficRouter) -> None:
    await refused(router.write(TrafficState(route=ROUTE, version=1, stable=OLD)), Conflict)
    created = await _created(router)
    assert created.version == 1
    assert await router.read(ROUTE) == created
    await refused(router.write(TrafficState(route=ROUTE, stable=OLD)), Conflict)


async def every_write_raises_the_version_by_one(router: TrafficRouter) -> None:
    state = await _created(router)
    for weight in (5, 20, 20, 0):
        before = state.version
        state = await router.write(state.model_copy(update={"canary": NEW, "weight": weight}))
        assert state.version == before + 1
        assert await router.read(ROUTE) == state


async def an_old_version_conflicts_and_changes_nothing(router: TrafficRouter) -> None:
    old = await _created(router)
    current = await router.write(old.model_copy(update={"canary": NEW, "weight": 5}))
    await refused(router.write(old.model_copy(update={"canary": NEW, "weight": 60})), Conflict)
    await refused(router.write(current.model_copy(update={"version": 99})), Conflict)
    assert await router.read(ROUTE) == current


async def one_of_two_writers_wins(router: TrafficRouter) -> None:
    state = await _created(router)
    wanted = [state.model_copy(update={"canary": NEW, "weight": weight}) for weight in (10, 20, 30, 40)]
    results = await asyncio.gather(*map(router.write, wanted), return_exceptions=True)
    won = [result for result in results if isinstance(result, TrafficState)]
    assert len(won) == 1
    assert all(isinstance(result, (TrafficState, Conflict)) for result in results)
    assert await router.read(ROUTE) == won[0]


async def misshapen_states_are_invalid(router: TrafficRouter) -> None:
    state = await _created(router)
    for wrong in (
        {"stable": Group(revision="old")},
        {"weight": 5},
        {"canary": NEW, "weight": 101},
        {"canary": NEW, "weight": -1},
    ):
        await refused(router.write(state.model_copy(update=wrong)), Invalid)
    assert await router.read(ROUTE) == state
    await refused(router.write(TrafficState(route="../etc", stable=OLD)), Invalid)


async def abort_latches_and_takes_the_weight_in_one_write(router: TrafficRouter) -> None:
    before = await _with_canary(router, 40)
    after = await router.abort(ROUTE, "new")
    assert (after.weight, after.aborted, after.version) == (0, ("new",), before.version + 1)
    assert after.canary == NEW
    assert await router.read(ROUTE) == after
    assert await router.abort(ROUTE, "new") == after


async def abort_of_another_revision_leaves_the_weight(router: TrafficRouter) -> None:
    await _with_canary(router, 40)
    after = await router.abort(ROUTE, "elsewhere")
    assert (after.weight, after.aborted) == (40, ("elsewhere",))


async def abort_after_promotion_brings_the_previous_back(router: TrafficRouter) -> None:
    state = await _with_canary(router, 100)
    update = {"stable": group("new", 20003), "previous": OLD, "canary": None, "weight": 0}
    await router.write(state.model_copy(update=update))
    after = await router.abort(ROUTE, "new")
    assert (after.stable, after.previous) == (OLD, NEW)
    assert after.aborted == ("new",)
    assert await router.abort(ROUTE, "new") == after


async def abort_in_the_middle_of_a_promotion_does_both(router: TrafficRouter) -> None:
    state = await _with_canary(router, 100)
    update = {"stable": group("new", 20005), "previous": OLD, "canary": NEW, "weight": 100}
    await router.write(state.model_copy(update=update))
    after = await router.abort(ROUTE, "new")
    assert (after.stable, after.weight) == (OLD, 0)


async def stable_serves_on_when_there_is_nothing_to_go_back_to(router: TrafficRouter) -> None:
    state = await _created(router)
    assert (await router.abort(ROUTE, "old")).stable == OLD
    state = await router.read(ROUTE)
    state = await router.write(state.model_copy(update={"previous": Group(revision="older")}))
    assert (await router.abort(ROUTE, "old")).stable == OLD
    await router.abort(ROUTE, "older")
    state = await router.read(ROUTE)
    await router.write(state.model_copy(update={"previous": group("older", 20009)}))
    assert (await router.abort(ROUTE, "old")).stable == OLD


async def the_latch_holds_against_every_write(router: TrafficRouter) -> None:
    await _with_canary(router, 40)
    latched = await router.abort(ROUTE, "new")
    for forbidden in (
        {"weight": 1},
        {"weight": 1, "aborted": ()},
        {"stable": NEW, "canary": None},
        {"stable": NEW, "canary": None, "aborted": ()},
    ):
        await refused(router.write(latched.model_copy(update=forbidden)), Latched)
    assert await router.read(ROUTE) == latched
    kept = await router.write(latched.model_copy(update={"aborted": ()}))
    assert kept.aborted == ("new",)
    later = await router.write(kept.model_copy(update={"canary": group("newer", 20007), "weight": 5}))
    assert later.weight == 5


async def a_latched_revision_does_not_get_in_by_creation(router: TrafficRouter) -> None:
    await refused(router.write(TrafficState(route=ROUTE, stable=OLD, aborted=("old",))), Latched)
    await refused(router.read(ROUTE), NotFound)


async def clear_latch_lets_it_carry_traffic_again(router: TrafficRouter) -> None:
    await _with_canary(router, 40)
    await router.abort(ROUTE, "new")
    cleared = await router.clear_latch(ROUTE, "new")
    assert (cleared.weight, cleared.aborted) == (0, ())
    assert await router.clear_latch(ROUTE, "new") == cleared
    assert (await router.write(cleared.model_copy(update={"weight": 5}))).weight == 5


async def no_latch_is_forgotten_by_itself(router: TrafficRouter) -> None:
    state = await _with_canary(router, 40)
    many = tuple(f"r{number}" for number in range(100))
    state = await router.write(state.model_copy(update={"aborted": many}))
    await router.abort(ROUTE, "new")
    state = await router.read(ROUTE)
    await router.write(state.model_copy(update={"canary": None, "weight": 0, "aborted": ()}))
    assert (await router.read(ROUTE)).aborted == (*many, "new")


async def routes_are_apart(router: TrafficRouter) -> None:
    await _with_canary(router, 40)
    await router.write(TrafficState(route="blog", stable=NEW))
    await router.abort("blog", "elsewhere")
    state = await router.read(ROUTE)
    assert (state.weight, state.aborted, state.version) == (40, (), 2)


async def drift_is_never_stored(router: TrafficRouter) -> None:
    state = await router.write(TrafficState(route=ROUTE, stable=OLD, drifted=True))
    assert not state.drifted
    assert not (await router.read(ROUTE)).drifted


CONTRACT: tuple[Check, ...] = (
    unknown_route_is_not_found,
    version_0_creates_and_nothing_else_does,
    every_write_raises_the_version_by_one,
    an_old_version_conflicts_and_changes_nothing,
    one_of_two_writers_wins,
    misshapen_states_are_invalid,
    abort_latches_and_takes_the_weight_in_one_write,
    abort_of_another_revision_leaves_the_weight,
    abort_after_promotion_brings_the_previous_back,
    abort_in_the_middle_of_a_promotion_does_both,
    stable_serves_on_when_there_is_nothing_to_go_back_to,
    the_latch_holds_against_every_write,
    a_latched_revision_does_not_get_in_by_creation,
    clear_latch_lets_it_carry_traffic_again,
    no_latch_is_forgotten_by_itself,
    routes_are_apart,
    drift_is_never_stored,
)


async def nothing_is_seen_of_an_unknown_route(router: TrafficRouter) -> None:
    assert (await router.observe(ROUTE)).weight is None


async def the_share_in_force_is_seen(router: TrafficRouter) -> None:
    state = await _created(router)
    await seen(router, TrafficSeen(weight=0, stable_revision="old", backends=_urls(OLD)))
    for weight in (5, 0, 100):
        state = await router.write(state.model_copy(update={"canary": NEW, "weight": weight}))
        both = TrafficSeen(
            weight=weight, stable_revision="old", canary_revision="new", backends=_urls(OLD, NEW)
        )
        await seen(router, both)
    await router.abort(ROUTE, "new")
    await seen(router, both.model_copy(update={"weight": 0}))


async def a_canary_without_backends_gets_no_share(router: TrafficRouter) -> None:
    state = await _with_canary(router, 20)
    await router.write(state.model_copy(update={"canary": Group(revision="new")}))
    await seen(router, TrafficSeen(weight=0, stable_revision="old", backends=_urls(OLD)))


async def a_promotion_is_seen(router: TrafficRouter) -> None:
    state = await _with_canary(router, 100)
    update = {"stable": NEW, "previous": OLD, "canary": None, "weight": 0}
    await router.write(state.model_copy(update=update))
    await seen(router, TrafficSeen(weight=0, stable_revision="new", backends=_urls(NEW)))


DATA_PLANE: tuple[Check, ...] = (
    nothing_is_seen_of_an_unknown_route,
    the_share_in_force_is_seen,
    a_canary_without_backends_gets_no_share,
    a_promotion_is_seen,
)


async def seen(router: TrafficRouter, expected: TrafficSeen, within: float = 5.0) -> None:
    """Wait until the data plane of the contract's route does what is `expected`, `within` seconds."""
    give_up = time.monotonic() + within
    while (found := await router.observe(ROUTE)) != expected:
        assert time.monotonic() < give_up, f"seen {found}, expected {expected}"
        await asyncio.sleep(0.01)


def _urls(*groups: Group) -> frozenset[str]:
    return frozenset(backend.url for each in groups for backend in each.backends)
