"""Applying a configuration: all of it or nothing, whatever is refused and whatever cannot be written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from tests.unit.applying_setting import SECRET, Place, config, group, revision_of

from phoenix_orch.kernel.errors import Invalid, Latched, Retryable
from phoenix_orch.orchestrator.config import PhoenixFile
from phoenix_orch.orchestrator.views import ChangeKind
from phoenix_orch.rollout.status import State, Status

pytestmark = pytest.mark.anyio


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def applied(place: Place, file: PhoenixFile) -> None:
    await place.applying().apply(file, actor="me")


# -- the file that is kept -------------------------------------------------------------------------

DAMAGED = ["", "{", "[1]", '{"services": {"web": {"env": {"TOKEN": "hunter2"}}}}', "\udcff"]


@pytest.mark.parametrize("text", DAMAGED)
async def test_a_damaged_one_is_refused_without_a_file_and_its_secrets_stay_in_it(
    place: Place, text: str
) -> None:
    place.kept.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(Invalid, match="does not hold a configuration") as refused:
        place.applying()
    assert "start with -f" in refused.value.remedy
    assert SECRET not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


@pytest.mark.parametrize("text", DAMAGED)
async def test_with_a_file_a_damaged_one_is_kept_aside_and_replaced(place: Place, text: str) -> None:
    damaged = text.encode(errors="surrogateescape")
    place.kept.write_bytes(damaged)
    applying = place.applying(anew=True)
    assert applying.config is None
    assert place.kept.read_bytes() == damaged, "nothing is lost before another one takes its place"
    await applying.declare_known()
    await applying.apply(config(), actor="me", starting=True)
    assert place.kept.with_name("applied.json.unreadable").read_bytes() == damaged
    assert place.applying().config == config()


async def test_a_start_that_is_refused_leaves_the_damaged_one_where_it_was(place: Place) -> None:
    await place.router.declare_all({"other": config().routes["web"]})
    await place.serve("other", "r")
    place.kept.write_text("{")
    with pytest.raises(Invalid, match="both take"):
        await place.applying(anew=True).apply(config(), actor="me", starting=True)
    assert place.kept.read_text() == "{"


async def test_a_directory_in_its_place_is_moved_aside(place: Place) -> None:
    place.kept.mkdir()
    with pytest.raises(Invalid, match="cannot be read"):
        place.applying()
    await place.applying(anew=True).apply(config(), actor="me")
    assert place.applying().config == config()


FULL = OSError(errno.ENOSPC, "No space left on device")
READ_ONLY = OSError(errno.EROFS, "Read-only file system")


@pytest.mark.parametrize("error", [FULL, READ_ONLY], ids=["full", "read-only"])
@pytest.mark.parametrize("call", ["open", "fsync"])
async def test_what_cannot_be_kept_changes_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch, error: OSError, call: str
) -> None:
    await applied(place, config())
    applying, before = place.applying(), await place.picture()
    original = getattr(os, call)

    def refused(target: object, *more: object, **named: object) -> object:
        if call == "fsync" or "applied.json" in str(target):
            raise error
        return original(target, *more, **named)

    with monkeypatch.context() as patched:
        patched.setattr(os, call, refused)
        with pytest.raises(Retryable, match=str(error.strerror)) as told:
            await applying.apply(config(version="2"), actor="me")
        assert "apply the same again" in told.value.remedy
        assert await place.picture() == before
        assert applying.config == config()
        if call == "open":  # the same file needs no room: Phoenix starts in spite of a full disk
            changes = await place.applying().apply(config(), actor="me", starting=True)
            assert [change.kind for change in changes] == [ChangeKind.NONE]
    assert [path.name for path in place.kept.parent.glob("*applied*")] == ["applied.json"]
    await applying.apply(config(version="2"), actor="me")
    assert place.applying().config == config(version="2")


# -- routes ----------------------------------------------------------------------------------------


async def test_a_route_that_the_router_refuses_changes_nothing(place: Place) -> None:
    """A route of nobody's file takes the same requests as the second of two."""
    await place.router.declare_all({"strange": config({"strange": "/shop"}).routes["strange"]})
    await place.serve("strange", "r")
    await applied(place, config({"web": "/"}))
    await place.serve("web", revision_of(config()))
    before = await place.picture()
    both = config({"web": "/web", "shop": "/shop"}, version="2")
    with pytest.raises(Invalid, match="routes 'strange' and 'shop' both take any host /shop"):
        await place.applying().apply(both, actor="me")
    assert await place.picture() == before


async def test_routes_may_swap_their_requests_in_one_file(place: Place) -> None:
    await applied(place, config({"web": "/", "api": "/api", "old": "/old"}))
    for route in ("web", "api", "old"):
        await place.serve(route, "r")
    round_about = {"web": "/api", "api": "/old", "old": "/"}
    await applied(place, config(round_about))
    found = {name: place.router._files.read(name).spec.path_prefix for name in round_about}
    assert found == round_about


async def test_a_route_that_no_rollout_steers_is_refused(place: Place) -> None:
    file = PhoenixFile.model_validate(
        {
            "services": {"web": {"command": "serve {port}"}},
            "routes": {"web": {"service": "web"}, "side": {"service": "web", "pathPrefix": "/side"}},
            "rollouts": {"web": {"route": "web"}},
        }
    )
    before = await place.picture()
    with pytest.raises(Invalid, match="route 'side' leads to service 'web'") as refused:
        await place.applying().apply(file, actor="me")
    assert "'side'" in refused.value.remedy
    assert await place.picture() == before


# -- what is planned -------------------------------------------------------------------------------


async def test_a_latched_revision_is_refused_also_where_the_store_knows_nothing(place: Place) -> None:
    await place.serve("web", "old", aborted=(revision_of(config()),))
    before = await place.picture()
    with pytest.raises(Latched, match="was rolled back"):
        await place.applying().apply(config(), actor="me")
    assert await place.picture() == before


async def test_a_file_that_asks_for_what_was_started_by_hand_takes_it_over(place: Place) -> None:
    await applied(place, config())
    rollout = await place.store.get("web")
    two = config(version="2")
    await place.store.put(rollout.model_copy(update={"target": revision_of(two)}))
    (change,) = await place.applying().apply(two, actor="me")
    assert (change.kind, change.detail) == (
        ChangeKind.CONFIGURE,
        "the file asks for version 2, which is wanted already",
    )
    assert (await place.store.get("web")).applied == revision_of(two)


@pytest.mark.parametrize(
    ("latched", "why"), [(True, "was rolled back and is latched"), (False, "was undone")]
)
async def test_a_file_that_asks_again_for_what_does_not_serve_is_told_so(
    place: Place, latched: bool, why: str
) -> None:
    file = config(version="2")
    await applied(place, file)
    rollout = await place.store.get("web")
    await place.store.save(rollout, Status(state=State.ROLLED_BACK, stable="old", release=1))
    await place.serve("web", "old", aborted=(revision_of(file),) if latched else ())
    (change,) = await place.applying().apply(file, actor="me")
    assert (change.kind, change.detail) == (
        ChangeKind.NONE,
        f"unchanged, but this version {why}: revision old serves",
    )


async def test_what_else_the_file_changes_does_not_hide_that_its_version_is_latched(place: Place) -> None:
    await applied(place, config())
    two = config(version="2")
    rollout = await place.store.get("web")
    await place.store.put(rollout.model_copy(update={"target": revision_of(two)}))
    rollout = await place.store.get("web")
    await place.store.save(rollout, Status(state=State.ROLLED_BACK, stable="old", release=1))
    await place.serve("web", "old", aborted=(revision_of(two),))
    (change,) = await place.applying().apply(two, actor="me", dry_run=True)
    assert change.kind is ChangeKind.CONFIGURE
    assert change.detail.startswith("the file asks for version 2, which is wanted already, but")
    assert change.detail.endswith("was rolled back and is latched: revision old serves")


async def test_a_dry_run_changes_nothing(place: Place) -> None:
    before = await place.picture()
    (change,) = await place.applying().apply(config(), actor="me", dry_run=True)
    assert change.kind is ChangeKind.CREATE
    assert await place.picture() == before


async def test_what_changes_beside_rollouts_is_told_and_as_well_by_a_dry_run(place: Place) -> None:
    await applied(place, config())
    task = {"command": ("report",), "every": "5m"}
    file = PhoenixFile.model_validate({**config().model_dump(by_alias=True), "tasks": {"report": task}})
    applying = place.applying()
    dry = await applying.apply(file, actor="me", dry_run=True)
    assert [(change.kind, change.target) for change in dry] == [
        (ChangeKind.NONE, "rollout/web"),
        (ChangeKind.CREATE, "task/report"),
        (ChangeKind.CREATE, "schedule/report"),
    ]
    assert await applying.apply(file, actor="me") == dry
    assert [change.target for change in await applying.apply(file, actor="me")] == ["rollout/web"]


# -- a store that was lost -------------------------------------------------------------------------


async def running(place: Place, *files: PhoenixFile) -> None:
    """The first file is applied, and instances of all run."""
    await applied(place, files[0])
    for file in files:
        await place.workload.scale("web", file.services["web"].template(), 2)


ONE, TWO = config(), config(version="2")
OLD, NEW = revision_of(ONE), revision_of(TWO)


async def test_a_rollout_is_founded_anew_on_what_serves(place: Place) -> None:
    """Version 2 was started by hand and promoted; the file asks for 1, and nobody wants to go back."""
    await running(place, ONE, TWO)
    await place.serve("web", NEW)
    await place.store.remove("web")
    applying = place.applying()
    assert await applying.recover() == ("web",)
    rollout = await place.store.get("web")
    assert (rollout.status.state, rollout.status.stable, rollout.target) == (State.IDLE, NEW, NEW)
    assert rollout.applied == OLD
    assert {kept.revision for kept in await place.store.revisions("web")} == {OLD, NEW}
    (event,) = await place.store.events("web")
    assert event.reason == "StoreLost"
    assert "version 2 serves and stays stable" in event.message
    assert await applying.recover() == ()
    (change,) = await applying.apply(ONE, actor="phoenix up", starting=True)
    assert change.kind is ChangeKind.NONE, "the file asks for nothing new"


async def test_what_was_on_its_way_is_named_and_not_wanted(place: Place) -> None:
    await running(place, ONE, TWO)
    await place.serve("web", OLD, canary=group(NEW), weight=60)
    await place.store.remove("web")
    await place.applying().recover()
    rollout = await place.store.get("web")
    assert (rollout.status.stable, rollout.status.canary, rollout.target) == (OLD, None, OLD)
    assert "version 2 was at 60 % and is taken off" in rollout.status.message


async def test_a_bake_ends_with_what_serves_everybody(place: Place) -> None:
    await running(place, ONE, TWO)
    await place.serve("web", NEW, previous=group(OLD))
    await place.store.remove("web")
    await place.applying().recover()
    rollout = await place.store.get("web")
    assert (rollout.status.stable, rollout.target) == (NEW, NEW)
    assert "version 1 is let go" in rollout.status.message


async def test_without_a_traffic_object_or_instances_it_begins_as_the_file_says(place: Place) -> None:
    await applied(place, ONE)
    await place.store.remove("web")
    assert await place.applying().recover() == ("web",)
    rollout = await place.store.get("web")
    assert (rollout.status.state, rollout.target) == (State.INITIALIZING, OLD)
    await place.store.remove("web")
    await place.serve("web", "unknown")
    assert await place.applying().recover() == ("web",)
    assert (await place.store.get("web")).target == OLD


async def test_cut_off_half_way_it_is_founded_all_the_same(place: Place) -> None:
    await running(place, ONE, TWO)
    await place.serve("web", NEW)
    await place.store.remove("web")
    applying = place.applying()
    original = place.store.save

    async def killed(*_: object, **__: object) -> object:
        raise Retryable("killed here", remedy="")

    place.store.save = killed  # type: ignore[method-assign]
    with pytest.raises(Retryable):
        await applying.recover()
    place.store.save = original  # type: ignore[method-assign]
    rollout = await place.store.get("web")
    assert (rollout.status.state, rollout.target) == (State.INITIALIZING, NEW), "its first revision serves"


async def test_another_version_is_released_step_by_step_over_what_serves_unknown(place: Place) -> None:
    """Neither store nor applied.json are there any more; what serves is not swapped away at once."""
    await running(place, ONE)
    await place.serve("web", OLD)
    await place.store.remove("web")
    place.kept.unlink()
    applying = place.applying(anew=True)
    (dry,) = await applying.apply(TWO, actor="me", starting=True, dry_run=True)
    assert dry.kind is ChangeKind.RELEASE
    assert await place.store.rollouts() == []
    (change,) = await applying.apply(TWO, actor="me", starting=True)
    assert change == dry
    rollout = await place.store.get("web")
    assert (rollout.status.stable, rollout.target, rollout.applied) == (OLD, NEW, NEW)


async def test_latches_outlive_the_store(place: Place) -> None:
    await running(place, ONE, TWO)
    state = await place.serve("web", OLD, aborted=(NEW,))
    await place.store.remove("web")
    await place.applying().recover()
    assert await place.router.read("web") == state
    with pytest.raises(Latched):
        await place.applying().apply(TWO, actor="me")
