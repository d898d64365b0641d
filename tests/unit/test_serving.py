"""What served last is kept beside what was asked for, and begun with where nothing else is left."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.unit.applying_setting import Place, config, revision_of

from phoenix_orch.kernel.errors import Retryable
from phoenix_orch.orchestrator.applying import Applying
from phoenix_orch.orchestrator.config import PhoenixFile
from phoenix_orch.orchestrator.serving import Serving, proven, remembered
from phoenix_orch.orchestrator.views import ChangeKind
from phoenix_orch.rollout.status import Revision, State, Status

pytestmark = pytest.mark.anyio

ONE, TWO = config(), config(version="2")
OLD, NEW = revision_of(ONE), revision_of(TWO)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def serving(place: Place, file: PhoenixFile | None = TWO) -> Serving:
    return Serving(place.store, lambda: file, place.kept.with_name("serving.json"))


def starting(place: Place) -> Applying:
    """As `phoenix up` makes it."""
    return Applying(
        store=place.store,
        router=place.router,
        workload=place.workload,
        clock=place.clock,
        kept=place.kept,
        remembered=lambda service: remembered(place.kept.with_name("serving.json"), service),
    )


async def stands(place: Place, state: State, **status: Any) -> None:
    """Version 1 was applied and served, version 2 was applied over it; this is how that stands."""
    await place.applying().apply(ONE, actor="me")
    await place.applying().apply(TWO, actor="me")
    rollout = await place.store.get("web")
    await place.store.save(rollout, Status(state=state, release=1, **status))


def version(text: str | None) -> str:
    return str(json.loads(text or "{}")["services"]["web"]["version"])


STANDING: dict[str, tuple[State, dict[str, str], str]] = {
    "taken back": (State.ROLLED_BACK, {"stable": OLD}, "1"),
    "on its way": (State.PROGRESSING, {"stable": OLD, "canary": NEW}, "1"),
    "baking": (State.BAKING, {"stable": NEW, "previous": OLD}, "1"),
    "promoted": (State.PROMOTED, {"stable": NEW}, "2"),
}


@pytest.mark.parametrize("case", STANDING)
async def test_it_is_the_last_release_that_succeeded(place: Place, case: str) -> None:
    state, status, expected = STANDING[case]
    await stands(place, state, **status)
    kept = serving(place)
    await kept.look()
    path = place.kept.with_name("serving.json")
    assert version(path.read_text()) == version(kept.text) == expected
    assert stat.S_IMODE(path.stat().st_mode) == 0o600, "environments are in it"
    again = PhoenixFile.model_validate_json(path.read_text())
    assert again.services["web"].template().revision == {"1": OLD, "2": NEW}[expected]
    assert again.services["web"].replicas == TWO.services["web"].replicas


async def test_before_the_first_release_has_come_up_it_is_what_was_applied(place: Place) -> None:
    await place.applying().apply(TWO, actor="me")
    kept = serving(place)
    await kept.look()
    assert version(kept.text) == "2"


async def test_nothing_is_written_before_anything_was_applied_nor_twice(place: Place) -> None:
    kept = serving(place, None)
    await kept.look()
    path = place.kept.with_name("serving.json")
    assert not path.exists()
    await stands(place, State.PROMOTED, stable=NEW)
    kept = serving(place)
    await kept.look()
    path.unlink()
    await kept.look()
    assert not path.exists(), "who watches the files writes it again"


async def test_a_store_that_was_lost_does_not_make_it_forget(place: Place) -> None:
    await stands(place, State.ROLLED_BACK, stable=OLD)
    await serving(place).look()
    await place.store.remove("web")
    later = serving(place)
    await later.look()
    assert version(later.text) == "1"


async def test_a_revision_that_no_file_may_say_any_more_is_told(place: Place) -> None:
    await stands(place, State.PROMOTED, stable="odd")
    odd = {**ONE.services["web"].template().model_dump(mode="json"), "env": {"A=B": "x"}}
    await place.store.add_revision(
        "web",
        Revision(
            revision="odd",
            number=0,
            version="odd",
            at=place.clock.now(),
            change_cause="",
            template=odd,
        ),
    )
    kept = serving(place)
    with capture_logs() as logs:
        await kept.look()
    assert version(kept.text) == "2"
    assert any("not remembered" in line["event"] for line in logs)


async def test_a_store_that_is_away_is_borne(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away() -> object:
        raise Retryable("away", remedy="")

    monkeypatch.setattr(place.store, "rollouts", away)
    with pytest.raises(Retryable):
        await serving(place).look()


# -- beginning with it -----------------------------------------------------------------------------


async def lost(place: Place) -> None:
    """Version 2 was taken back; then the machine and its store were lost, and the files came back."""
    await stands(place, State.ROLLED_BACK, stable=OLD)
    await serving(place).look()
    await place.store.remove("web")
    for template in (ONE, TWO):
        await place.workload.scale("web", template.services["web"].template(), 0)


async def test_a_rollout_of_which_nothing_is_left_begins_with_it(place: Place) -> None:
    await lost(place)
    with capture_logs() as logs:
        assert await starting(place).recover() == ("web",)
    rollout = await place.store.get("web")
    assert (rollout.status.state, rollout.target) == (State.INITIALIZING, OLD)
    assert rollout.applied == NEW, "the file asks for nothing new"
    assert any("last release that succeeded" in line["event"] for line in logs)


async def test_so_does_a_start_with_the_same_file(place: Place) -> None:
    await lost(place)
    (change,) = await starting(place).apply(TWO, actor="phoenix up", starting=True)
    assert (change.kind, change.version) == (ChangeKind.CREATE, "1")
    rollout = await place.store.get("web")
    assert (rollout.target, rollout.applied) == (OLD, NEW)
    (change,) = await starting(place).apply(TWO, actor="phoenix up", starting=True)
    assert change.kind is ChangeKind.NONE


async def test_a_file_that_asks_for_something_new_begins_with_that_and_says_so(place: Place) -> None:
    await lost(place)
    with capture_logs() as logs:
        await starting(place).apply(config(version="3"), actor="phoenix up", starting=True)
    assert (await place.store.get("web")).target == revision_of(config(version="3"))
    (line,) = [one for one in logs if "no release of it is known here" in one["event"]]
    assert (line["rollout"], line["version"]) == ("web", "3")


async def test_with_its_traffic_object_it_stays_stable_and_nothing_is_released(place: Place) -> None:
    """The machine was started anew, and the store is empty: who is stable is known, what that is as well."""
    await lost(place)
    await place.serve("web", OLD, aborted=(NEW,))
    applying = starting(place)
    await applying.declare_known()
    assert await applying.recover() == ("web",)
    rollout = await place.store.get("web")
    assert (rollout.status.state, rollout.status.stable, rollout.target) == (State.IDLE, OLD, OLD)
    assert OLD in {kept.revision for kept in await place.store.revisions("web")}


@pytest.mark.parametrize("text", ["", "{", '{"services": {}}', "[]"])
async def test_a_file_that_says_nothing_of_it_is_no_memory(place: Place, text: str) -> None:
    await lost(place)
    place.kept.with_name("serving.json").write_text(text)
    await starting(place).recover()
    assert (await place.store.get("web")).target == NEW


def test_what_is_proven_of_a_status() -> None:
    assert proven(Status(state=State.BAKING, stable="b", previous="a")) == "a"
    assert proven(Status(state=State.BAKING, stable="b")) == "b"
    assert proven(Status(state=State.ROLLING_BACK, stable="a", canary="b")) == "a"
    assert proven(Status()) is None
