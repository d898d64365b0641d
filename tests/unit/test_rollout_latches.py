"""Latches follow what the store knows, when the traffic object does not know them any more."""

import pytest
from tests.unit.controller_setting import SHOP, World, revision
from tests.unit.rollout_setting import T0, status_in

from phoenix_orch.health_validator.observation import VerdictKind
from phoenix_orch.kernel.errors import Unavailable
from phoenix_orch.rollout import latches
from phoenix_orch.rollout.latches import LATCHES_KEPT, to_forget, to_latch
from phoenix_orch.rollout.status import CommandKind, Outcome, Release, Rollout, State, Status
from phoenix_orch.rollout.store.store import REVISIONS_KEPT
from phoenix_orch.testing.router_contract import group
from phoenix_orch.traffic.router import TrafficState

pytestmark = pytest.mark.anyio

OLD, NEW = revision("1"), revision("2")


@pytest.fixture
def world() -> World:
    return World()


def ended(number: int, name: str, outcome: Outcome) -> Release:
    return Release(number=number, revision=name, ended=T0, outcome=outcome)


BAD = ended(1, "bad", Outcome.ROLLED_BACK)


@pytest.mark.parametrize(
    ("status", "history", "told", "latched"),
    [
        (Status(stable="good"), [BAD], (), {"bad"}),
        (Status(stable="good"), [], ("bad",), {"bad"}),
        (Status(stable="good"), [ended(2, "bad", Outcome.SUPERSEDED), BAD], ("bad",), set()),
        (Status(stable="bad"), [ended(2, "bad", Outcome.PROMOTED), BAD], (), set()),
        (Status(stable="bad"), [BAD], (), set()),
        (Status(state=State.PROGRESSING, stable="good", canary="bad"), [BAD], (), set()),
        (Status(state=State.ROLLING_BACK, stable="good", canary="bad"), [], (), {"bad"}),
        (Status(state=State.BAKING, stable="next", previous="bad"), [BAD], (), set()),
        (Status(stable="good"), [ended(1, "gone", Outcome.ROLLED_BACK)], (), {"gone"}),
        (
            Status(stable="good"),
            [ended(2, "gone", Outcome.CANCELLED), ended(1, "gone", BAD.outcome)],
            (),
            set(),
        ),
    ],
)
def test_what_was_rolled_back_and_not_tried_again_is_latched(
    status: Status, history: list[Release], told: tuple[str, ...], latched: set[str]
) -> None:
    assert to_latch(status, ("good", "bad", "next"), history, told) == latched


def test_latches_are_forgotten_at_the_cap_alone_oldest_first_and_only_those_nobody_names() -> None:
    named = ("c", "kept", "target", "ended")
    state = TrafficState(route=SHOP, stable=group("s", 1), canary=group("c", 2))
    rollout = Rollout(name=SHOP, service=SHOP, route=SHOP, target="target", status=status_in(State.IDLE))
    history = [ended(1, "ended", Outcome.ROLLED_BACK)]

    def forgotten(*aborted: str) -> tuple[str, ...]:
        return to_forget(rollout, state.model_copy(update={"aborted": aborted}), ["kept"], history)

    many = tuple(f"gone-{number}" for number in range(LATCHES_KEPT - len(named)))
    assert forgotten(*named, *many) == ()
    assert forgotten(*named, *many, "1", "2") == ("gone-0", "gone-1")
    assert forgotten(*many, *named, "1") == ("gone-0",)
    assert forgotten(*(f"kept-{number}" for number in range(LATCHES_KEPT)), *named) == tuple(
        f"kept-{number}" for number in range(len(named))
    )


async def rolled_back(world: World) -> None:
    await world.progressing()
    await world.judge(VerdictKind.ROLLBACK)
    await world.until(State.ROLLED_BACK)


@pytest.mark.parametrize("restarted", [True, False])
async def test_an_object_that_was_lost_with_its_copy_gets_its_latches_back(
    world: World, restarted: bool
) -> None:
    await rolled_back(world)
    world.router.delete(SHOP)
    if restarted:
        world.restarted()
    await world.passes(3)
    state = await world.router.read(SHOP)
    assert state.stable.revision == OLD
    assert state.aborted == (NEW,)
    told = [event for event in await world.store.events(SHOP) if event.reason == "LatchRestored"]
    assert [event.revision for event in told] == [NEW]


@pytest.mark.parametrize("restarted", [True, False])
async def test_an_object_that_is_made_again_while_rolling_back_is_born_latched(
    world: World, monkeypatch: pytest.MonkeyPatch, restarted: bool
) -> None:
    await world.progressing()
    world.router.delete(SHOP)
    await world.judge(VerdictKind.ROLLBACK)
    written: list[TrafficState] = []
    write = world.router.write

    async def noted(state: TrafficState) -> TrafficState:
        written.append(await write(state))
        return written[-1]

    monkeypatch.setattr(world.router, "write", noted)
    if restarted:
        world.restarted()
    await world.until(State.ROLLED_BACK)
    assert [(state.aborted, state.weight) for state in written[:1]] == [((NEW,), 0)]
    assert (await world.router.read(SHOP)).stable.revision == OLD


async def test_an_earlier_latch_comes_back_as_well(world: World) -> None:
    await rolled_back(world)
    await world.want("3")
    await world.until(State.PROMOTED, advance=True)
    world.router.delete(SHOP)
    await world.passes(3)
    state = await world.router.read(SHOP)
    assert (state.stable.revision, state.aborted) == (revision("3"), (NEW,))


async def test_what_a_person_allowed_again_is_not_latched(world: World) -> None:
    await rolled_back(world)
    await world.say(CommandKind.RETRY)
    await world.until(State.PROGRESSING)
    world.router.delete(SHOP)
    await world.passes(3)
    assert (await world.router.read(SHOP)).aborted == ()
    await world.until(State.PROMOTED, advance=True)


async def test_latches_come_back_when_the_store_does(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await rolled_back(world)
    world.router.delete(SHOP)
    with monkeypatch.context() as patch:

        async def away(*_: object, **__: object) -> object:
            raise Unavailable("away")

        patch.setattr(world.store, "history", away)
        await world.passes(3)
        assert (await world.router.read(SHOP)).stable.revision == OLD, "stable is served meanwhile"
    await world.passes(2)
    assert (await world.router.read(SHOP)).aborted == (NEW,)


async def another_bad_one(world: World, version: str) -> None:
    await world.want(version)
    await world.until(State.PROGRESSING, advance=True)
    await world.judge(VerdictKind.ROLLBACK)
    await world.until(State.ROLLED_BACK)


async def test_a_latch_outlives_the_revision_in_the_history(world: World) -> None:
    await world.serving()
    versions = [f"bad-{number}" for number in range(REVISIONS_KEPT + 10)]
    for version in versions:
        await another_bad_one(world, version)
    known = {one.revision for one in await world.store.revisions(SHOP)}
    assert revision(versions[0]) not in known
    assert (await world.router.read(SHOP)).aborted == tuple(map(revision, versions))
    assert await world.told("LatchForgotten") == []
    await world.want(versions[0])
    await world.passes(5)
    state = await world.router.read(SHOP)
    assert (state.stable.revision, state.weight) == (OLD, 0), "it may not come back by another name for it"


async def test_a_lost_object_gets_latches_back_whose_revisions_are_gone(world: World) -> None:
    await world.serving()
    versions = [f"bad-{number}" for number in range(REVISIONS_KEPT + 5)]
    for version in versions:
        await another_bad_one(world, version)
    world.router.delete(SHOP)
    await world.passes(3)
    assert set((await world.router.read(SHOP)).aborted) == set(map(revision, versions))


async def test_what_goes_at_the_cap_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latches, "LATCHES_KEPT", REVISIONS_KEPT + 2)
    await world.serving()
    state = await world.router.read(SHOP)
    old = tuple(f"old-{number}" for number in range(REVISIONS_KEPT + 2))
    await world.router.write(state.model_copy(update={"aborted": old}))
    await another_bad_one(world, "2")
    assert (await world.router.read(SHOP)).aborted == (*old[1:], NEW)
    (told,) = await world.told("LatchForgotten")
    assert "old-0" in told
