"""An abort past Phoenix: who and why come from the note beside the traffic object into the history."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.unit.controller_setting import FOREVER, SHOP, World, revision

from phoenix_orch.health_validator.observation import VerdictKind
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.rollout.aborts_by_hand import REASON_KEPT, AbortNote, AbortNotes
from phoenix_orch.rollout.status import Cause, Release, State
from phoenix_orch.runtime import users
from phoenix_orch.runtime.users import name_of

pytestmark = pytest.mark.anyio
NEW = revision("2")
AT = datetime(2026, 1, 1, tzinfo=UTC)
ME = name_of(os.getuid())


@pytest.fixture
def notes(tmp_path: Path) -> AbortNotes:
    return AbortNotes(tmp_path / "aborts")


@pytest.fixture
def world(notes: AbortNotes) -> World:
    made = World()
    made.notes = notes
    made.restarted()
    return made


def note(reason: str = "users complain", **changes: object) -> AbortNote:
    return AbortNote(**{"revision": NEW, "at": AT, "weight": 50, "reason": reason} | changes)  # type: ignore[arg-type]


async def aborted_by_hand(world: World) -> None:
    """As the command does it: the latch, then the note."""
    assert world.notes is not None
    await world.router.abort(SHOP, NEW)
    world.notes.write(SHOP, note(at=world.clock.now()))


async def ended(world: World) -> Release:
    await world.until(State.ROLLED_BACK)
    return (await world.store.history(SHOP))[0]


async def test_the_cause_of_the_release_is_what_was_noted(world: World, notes: AbortNotes) -> None:
    await world.progressing()
    await aborted_by_hand(world)
    world.restarted()
    release = await ended(world)
    assert release.cause is not None
    assert (release.cause.trigger, release.cause.actor) == ("person", ME)
    assert (release.cause.reason, release.cause.weight) == ("aborted: users complain", 50)
    assert notes.read(SHOP) is None, "it has been told"
    told = [event for event in await world.store.events(SHOP) if event.reason == "AbortedByHand"]
    assert [(event.actor, event.release) for event in told] == [(ME, 1)]
    assert "users complain" in told[0].message


async def test_a_note_that_comes_after_the_latch_was_found_is_learnt(world: World, notes: AbortNotes) -> None:
    await world.progressing()
    await world.router.abort(SHOP, NEW)
    await world.until(State.ROLLING_BACK)
    notes.write(SHOP, note())
    release = await ended(world)
    assert release.cause is not None
    assert release.cause.actor == ME


async def test_the_person_came_first_whatever_was_found_out_later(world: World) -> None:
    await world.progressing()
    await aborted_by_hand(world)
    await world.judge(VerdictKind.ROLLBACK)
    later = Cause(
        revision=NEW,
        trigger="verdict",
        reason="7 % errors",
        at=world.clock.now() + timedelta(seconds=1),
        actor="rollback-controller",
    )
    await world.store.put_cause(SHOP, later)
    world.restarted()
    release = await ended(world)
    assert release.cause is not None
    assert release.cause.actor == ME


async def test_what_was_found_out_before_the_person_came_stays_the_cause(world: World) -> None:
    await world.progressing()
    earlier = Cause(
        revision=NEW,
        trigger="verdict",
        reason="7 % errors",
        at=world.clock.now(),
        actor="rollback-controller",
    )
    await world.store.put_cause(SHOP, earlier)
    world.clock.advance(timedelta(seconds=1))
    await aborted_by_hand(world)
    release = await ended(world)
    assert release.cause is not None
    assert release.cause.actor == "rollback-controller"
    assert await world.told("AbortedByHand"), "that somebody aborted is not lost either"


async def test_it_is_known_while_the_store_is_away_and_told_when_it_is_back(
    world: World, notes: AbortNotes
) -> None:
    await world.progressing()
    world.store.away(FOREVER)
    await aborted_by_hand(world)
    await world.passes()
    assert notes.read(SHOP) is not None
    world.store.away(0)
    release = await ended(world)
    assert release.cause is not None
    assert release.cause.actor == ME
    assert len(await world.told("AbortedByHand")) == 1


async def test_a_damaged_note_is_told_once_and_stops_nothing(
    world: World, notes: AbortNotes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await world.progressing()
    await aborted_by_hand(world)
    (tmp_path / "aborts" / f"{SHOP}.json").write_text("{")
    with pytest.raises(Invalid, match="not the note of an abort") as refused:
        notes.read(SHOP)
    assert refused.value.remedy == "remove it"
    release = await ended(world)
    assert release.cause is not None
    assert release.cause.trigger == "latch"
    assert capsys.readouterr().err.count("not the note of an abort") == 1
    notes.write(SHOP, note())
    assert notes.read(SHOP) is not None


def test_a_note_is_bounded_and_readable_by_a_phoenix_of_another_user(
    notes: AbortNotes, tmp_path: Path
) -> None:
    notes.write(SHOP, note("x" * 10 * REASON_KEPT))
    found = notes.read(SHOP)
    assert found is not None
    assert len(found[0].reason) == REASON_KEPT
    (path,) = (tmp_path / "aborts").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    notes.drop(SHOP)
    notes.drop(SHOP)
    assert notes.read(SHOP) is None


def test_the_first_word_on_a_revision_stays_and_another_revision_replaces_it(notes: AbortNotes) -> None:
    for reason, which in (("first", NEW), ("second", NEW)):
        notes.write(SHOP, note(reason, revision=which))
    found = notes.read(SHOP)
    assert found is not None
    assert found[0].reason == "first"
    notes.write(SHOP, note("third", revision="other"))
    found = notes.read(SHOP)
    assert found is not None
    assert found[0].reason == "third"


def test_who_is_told_by_the_owner_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(uid: int) -> object:
        raise KeyError(uid)

    monkeypatch.setattr(users.pwd, "getpwuid", nobody)
    assert name_of(4711) == "uid 4711"
