"""What people ask at the wrong moment is refused with a remedy and changes nothing; secrets stay in."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.unit.applying_setting import SECRET, Place, config, group, revision_of

from phoenix_orch.health_validator.observation import Arm, Observation, Verdict, VerdictKind
from phoenix_orch.kernel.errors import BadState, Invalid, Latched
from phoenix_orch.orchestrator.freeze_book import FileBook
from phoenix_orch.orchestrator.operations import OrchestratorOperations
from phoenix_orch.orchestrator.views import ChangeKind
from phoenix_orch.rollout.status import CommandKind, Event, Outcome, Release, State, Status

pytestmark = pytest.mark.anyio
ONE, TWO = config(), config(version="2")
OLD, NEW = revision_of(ONE), revision_of(TWO)


class World(Place):
    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.woken = 0
        self.operations = OrchestratorOperations(
            store=self.store,
            router=self.router,
            workload=self.workload,
            clock=self.clock,
            applying=self.applying(),
            logs=None,  # type: ignore[arg-type]
            wake=self._wake,
            info=None,  # type: ignore[arg-type]
            book=FileBook(directory / "freezes.json"),
            tasks=None,
        )

    def _wake(self) -> None:
        self.woken += 1

    async def set(self, state: State, **changes: Any) -> None:
        """Version 1 was released, then 2 began its way."""
        fields: dict[str, Any] = {
            "state": state,
            "stable": OLD,
            "release": 2,
            "release_started": self.clock.now(),
        }
        await self.store.save(await self.store.get("web"), Status.model_validate(fields | changes))

    async def start(self, **asked: Any) -> Any:
        words = {"version": None, "env": None, "command": None, "change_cause": "", "dry_run": False}
        return await self.operations.start("web", actor="me", **words | asked)

    async def undo(self, to_revision: int | None = None, *, dry_run: bool = False) -> Any:
        return await self.operations.undo(
            "web", to_revision=to_revision, actor="me", reason="", dry_run=dry_run
        )


@pytest.fixture
async def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    for file in (ONE, TWO):
        await made.operations.apply(file, actor="me", dry_run=False)
    await made.set(State.IDLE)
    return made


async def test_what_is_stable_already_is_not_released(world: World) -> None:
    before = await world.picture()
    for asked in ({"version": "1"}, {"env": {"TOKEN": SECRET}}, {"command": ("serve", "{port}")}):
        with pytest.raises(BadState, match="the same as what is stable") as refused:
            await world.start(**asked)
        assert refused.value.remedy == "change the version, the environment or the command"
        assert SECRET not in str(refused.value)
    assert await world.picture() == before


@pytest.mark.parametrize(
    ("asked", "fault"),
    [
        ({"version": "not a version!"}, "version"),
        ({"version": ""}, "version"),
        ({"command": ()}, "command"),
        ({"command": ("serve", SECRET)}, "port"),
        ({"env": {"NUMBER": 7}}, "env.NUMBER"),
    ],
    ids=str,
)
async def test_a_wrong_template_is_refused_without_a_word_of_its_environment(
    world: World, asked: dict[str, Any], fault: str
) -> None:
    before = await world.picture()
    with pytest.raises(Invalid, match="that is no program to run") as refused:
        await world.start(**asked)
    assert fault in refused.value.message
    assert SECRET not in f"{refused.value} {refused.value.remedy}"
    assert refused.value.__suppress_context__, "a traceback would show what pydantic says"
    assert await world.picture() == before


@pytest.mark.parametrize("state", [State.ROLLING_BACK, State.CANCELLING])
async def test_undo_while_going_back_is_refused_and_a_named_revision_is_not(
    world: World, state: State
) -> None:
    await world.set(state, canary=NEW)
    before = await world.picture()
    with pytest.raises(BadState, match="is going back already") as refused:
        await world.undo()
    assert "--to-revision" in refused.value.remedy
    assert await world.picture() == before
    change = await world.undo(2)
    assert (change.kind, change.revision) == (ChangeKind.RELEASE, NEW)
    assert (await world.store.get("web")).target == NEW


@pytest.mark.parametrize("dry_run", [True, False])
async def test_undo_that_is_an_abort_is_refused_when_an_abort_is(world: World, dry_run: bool) -> None:
    """A return without steps keeps nothing to go back to in its bake."""
    await world.set(State.BAKING, stable=NEW, previous=None)
    before = await world.picture()
    with pytest.raises(
        BadState, match="cannot abort web: the revision before is not kept any more"
    ) as refused:
        await world.undo(dry_run=dry_run)
    assert "rollout status web" in refused.value.remedy
    assert await world.picture() == before


async def test_undo_in_a_release_is_an_abort_and_another_goal_is_refused(world: World) -> None:
    await world.set(State.PROGRESSING, canary=NEW, weight=5)
    with pytest.raises(BadState, match="undo goes back to revision 1 now"):
        await world.undo(2)
    assert (await world.undo(dry_run=True)).revision == OLD
    assert (await world.store.get("web")).commands == ()
    assert (await world.undo()).revision == OLD
    (command,) = (await world.store.get("web")).commands
    assert (command.kind, command.actor, command.reason) == (CommandKind.ABORT, "me", "undo")


async def test_undo_at_rest_brings_back_what_stable_replaced(world: World) -> None:
    ended = Release(number=2, revision=NEW, replaced=OLD, ended=world.clock.now(), outcome=Outcome.PROMOTED)
    promoted = Status(state=State.PROMOTED, stable=NEW, release=2)
    await world.store.save(await world.store.get("web"), promoted, release=ended)
    change = await world.undo()
    rollout = await world.store.get("web")
    assert (change.revision, rollout.target, rollout.fast) == (OLD, OLD, True)
    assert change.detail == (
        "from revision 2, version 2 to revision 1, version 1: at full size in one step, without phases"
    )


@pytest.mark.parametrize("dry_run", [True, False])
async def test_undo_after_a_rollback_is_refused_unless_the_goal_is_named(world: World, dry_run: bool) -> None:
    """What was bad is undone already: one more word would take a good version from everybody."""
    await world.start(version="3")
    bad = (await world.store.get("web")).target
    ended = Release(number=2, revision=NEW, replaced=OLD, ended=world.clock.now(), outcome=Outcome.PROMOTED)
    taken_back = Status(state=State.ROLLED_BACK, stable=NEW, canary=bad, release=3)
    await world.store.save(await world.store.get("web"), taken_back, release=ended)
    before = await world.picture()
    with pytest.raises(BadState) as refused:
        await world.undo(dry_run=dry_run)
    assert refused.value.message == (
        "revision 3, version 3 of web was taken back already and revision 2, version 2 serves; "
        "undo would go back one more"
    )
    assert refused.value.remedy == (
        "phoenix rollout undo web --to-revision 1 takes everybody from revision 2, version 2 to "
        "revision 1, version 1 in one step"
    )
    assert await world.picture() == before
    assert (await world.undo(1, dry_run=dry_run)).revision == OLD


async def test_undo_after_the_first_release_was_rolled_back_has_nowhere_to_go(world: World) -> None:
    await world.set(State.ROLLED_BACK, canary=NEW)
    with pytest.raises(BadState, match="was taken back already") as refused:
        await world.undo()
    assert refused.value.remedy == "phoenix get revisions web lists what there is"


async def test_a_latched_revision_comes_back_neither_by_start_nor_by_undo(world: World) -> None:
    await world.serve("web", OLD, aborted=(NEW,))
    with pytest.raises(Latched):
        await world.start(version="2")
    with pytest.raises(Latched):
        await world.undo(2)


async def test_a_trial_of_a_restart_refuses_what_a_restart_would(world: World) -> None:
    await world.set(State.PROGRESSING, canary="new")
    with pytest.raises(BadState, match="being released"):
        await world.operations.restart("web", actor="me", dry_run=True)


async def test_no_release_is_shown_the_verdict_of_another(world: World) -> None:
    """Also while the new one only starts and has none of its own."""
    rollout = await world.store.get("web")
    before = Verdict(
        kind=VerdictKind.ADVANCE, revision="before", step=1, at=world.clock.now(), reason="limits proven"
    )
    await world.store.put_verdict(rollout.name, before, "{}")
    for state, shown in ((State.IDLE, before), (State.STARTING, None), (State.PROGRESSING, None)):
        await world.set(state, canary="new")
        assert (await world.operations.view("web")).verdict == shown
    mine = before.model_copy(update={"revision": "new"})
    await world.store.put_verdict(rollout.name, mine, "{}")
    assert (await world.operations.view("web")).verdict == mine


async def test_who_starts_what_and_why_is_kept(world: World) -> None:
    await world.start(version="3", change_cause="ticket 7")
    await world.start(version="4", change_cause="sooner")
    told = [(event.reason, event.message, event.actor) for event in await world.operations.events("web", 10)]
    assert told[-2:] == [
        ("Start", "version 3 is wanted: ticket 7", "me"),
        ("Start", "version 4 is wanted: sooner", "me"),
    ]


async def test_events_are_shown_by_their_time(world: World) -> None:
    late = Event(at=world.clock.now() - timedelta(hours=1), reason="AbortedByHand", message="while away")
    await world.store.append_events("web", [late])
    assert (await world.operations.events("web", 10))[0] == late


async def test_what_is_asked_wakes_the_controller_and_a_loss_of_the_store_does(world: World) -> None:
    woken = world.woken
    await world.operations.recover()
    assert world.woken == woken, "nothing was lost"
    await world.workload.scale("web", ONE.services["web"].template(), 1)
    await world.serve("web", OLD, canary=group(NEW), weight=5)
    await world.store.remove("web")
    await world.operations.recover()
    assert world.woken == woken + 1
    assert (await world.operations.view("web")).rollout.status.stable == OLD


async def test_a_rollout_that_rests_is_read_once_and_what_goes_on_is_shown_all_the_same(world: World) -> None:
    arm = Arm(revision=NEW, requests=60, errors=3)
    now = world.clock.now()
    seen = Observation(
        t0=now, t1=now + timedelta(seconds=10), revision=NEW, step=0, weight_applied=100, canary=arm
    )
    await world.store.append_observation("web", seen)
    await world.clock.sleep(timedelta(seconds=10))
    first = await world.operations.view("web")
    again = await world.operations.view("web")
    assert first.canary.requests_per_second == 6
    assert again.versions is first.versions
    assert again.canary is first.canary
    await world.clock.sleep(timedelta(hours=1))
    later = await world.operations.view("web")
    assert later.at == first.at + timedelta(hours=1)
    assert later.canary.requests_per_second == 0
    assert later.canary.requests == 60
    await world.set(State.IDLE, message="another word")
    assert (await world.operations.view("web")).rollout.status.message == "another word"
