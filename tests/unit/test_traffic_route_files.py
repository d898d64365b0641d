"""What becomes of the files when hands, other programs and the disk interfere."""

import errno
import fcntl
from pathlib import Path

import pytest

from phoenix_orch.kernel.errors import Invalid, NotFound, Retryable
from phoenix_orch.testing.router_contract import NEW, OLD
from phoenix_orch.traffic.embedded import EmbeddedRouter
from phoenix_orch.traffic.route_files import RouteFiles
from phoenix_orch.traffic.router import TrafficState
from phoenix_orch.traffic.spec import RouteSpec

pytestmark = pytest.mark.anyio


@pytest.fixture
def router(tmp_path: Path) -> EmbeddedRouter:
    return EmbeddedRouter(tmp_path)


async def latched(router: EmbeddedRouter) -> TrafficState:
    state = await router.write(TrafficState(route="web", stable=OLD))
    await router.write(state.model_copy(update={"canary": NEW, "weight": 40}))
    return await router.abort("web", "new")


def file_of(router: EmbeddedRouter) -> Path:
    return router.directory / "dynamic" / "web.yaml"


@pytest.mark.parametrize("harm", ["deleted", "emptied", "torn", "header edited", "body edited"])
async def test_the_latch_outlives_hands(router: EmbeddedRouter, harm: str) -> None:
    state = await latched(router)
    path = file_of(router)
    good = path.read_text()
    if harm == "deleted":
        path.unlink()
    else:
        changed = {
            "emptied": "",
            "torn": good[:60],
            "header edited": good.replace('"aborted":["new"]', '"aborted":[]'),
            "body edited": good.replace('"weight": 0', '"weight": 90'),
        }
        assert changed[harm] != good
        path.write_text(changed[harm])
    found = await router.read("web")
    assert found == state.model_copy(update={"drifted": True})
    assert await router.routes() == ("web",)
    mended = await router.write(found)
    assert mended == state.model_copy(update={"version": state.version + 1})
    assert await router.read("web") == mended


async def test_an_abort_that_was_done_already_still_puts_the_file_back(router: EmbeddedRouter) -> None:
    state = await latched(router)
    good = file_of(router).read_text()
    file_of(router).write_text(good.replace('"weight": 0', '"weight": 90'))
    assert await router.abort("web", "new") == state
    assert file_of(router).read_text() == good


async def test_what_is_not_ours_is_not_touched(router: EmbeddedRouter) -> None:
    await latched(router)
    theirs = "http: {}\n"
    file_of(router).write_text(theirs)
    calls = [
        router.read("web"),
        router.write(TrafficState(route="web", stable=OLD)),
        router.abort("web", "new"),
        router.clear_latch("web", "new"),
        router.remove("web"),
    ]
    for call in calls:
        with pytest.raises(Invalid, match="not written by Phoenix"):
            await call
    assert file_of(router).read_text() == theirs
    assert await router.foreign() == (file_of(router),)
    assert await router.routes() == ()


async def test_foreign_files_that_traefik_would_read_are_named(router: EmbeddedRouter) -> None:
    await latched(router)
    dynamic = file_of(router).parent
    (dynamic / "sub").mkdir()
    read_by_traefik = [dynamic / ".hidden.yaml", dynamic / "other.toml", dynamic / "sub" / "x.yml"]
    for path in (*read_by_traefik, dynamic / "notes.txt"):
        path.write_text("x: 1\n")
    assert await router.foreign() == tuple(sorted(read_by_traefik))


async def test_torn_without_a_copy_says_what_to_do(router: EmbeddedRouter) -> None:
    await latched(router)
    (router.directory / "copies" / "web.yaml").unlink()
    file_of(router).write_text("# phoenix: 0 {")
    with pytest.raises(Invalid, match="cannot be read") as raised:
        await router.read("web")
    assert "delete the file" in raised.value.remedy
    with pytest.raises(Invalid, match="cannot be read"):
        await router.write(TrafficState(route="web", stable=OLD))


async def test_a_file_under_another_name_is_refused(router: EmbeddedRouter) -> None:
    await latched(router)
    file_of(router).rename(file_of(router).with_name("blog.yaml"))
    with pytest.raises(Invalid, match="is of route 'web'"):
        await router.read("blog")


async def test_only_files_for_traefik_lie_in_its_directory(router: EmbeddedRouter) -> None:
    await latched(router)
    assert [path.name for path in file_of(router).parent.iterdir()] == ["web.yaml"]
    assert [path.name for path in (router.directory / "scratch").iterdir()] == ["reserve"]


async def test_full_disk_leaves_the_old_object(
    router: EmbeddedRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = await latched(router)
    good = file_of(router).read_text()
    full_disk(monkeypatch)
    with pytest.raises(Retryable, match="No space left") as raised:
        await router.write(state)
    assert raised.value.remedy == "free some space"
    assert file_of(router).read_text() == good
    assert await router.read("web") == state
    assert [path.name for path in (router.directory / "scratch").iterdir()] == ["reserve"]


async def test_abort_works_on_a_full_disk(router: EmbeddedRouter, monkeypatch: pytest.MonkeyPatch) -> None:
    state = await router.write(TrafficState(route="web", stable=OLD))
    await router.write(state.model_copy(update={"canary": NEW, "weight": 40}))
    full_disk(monkeypatch, until_gone=router.directory / "scratch" / "reserve")
    after = await router.abort("web", "new")
    assert (after.weight, after.aborted) == (0, ("new",))
    assert await router.read("web") == after


async def test_abort_on_a_disk_full_beyond_the_reserve_says_so(
    router: EmbeddedRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    await latched(router)
    full_disk(monkeypatch)
    with pytest.raises(Retryable, match="No space left"):
        await router.abort("web", "other")


def full_disk(monkeypatch: pytest.MonkeyPatch, until_gone: Path | None = None) -> None:
    """Writing to a file fails as on a full disk, at the moment when its data has to reach the disk."""

    def fsync(_descriptor: int) -> None:
        if until_gone is None or until_gone.exists():
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("phoenix_orch.traffic.route_files.os.fsync", fsync)


async def test_a_missing_copy_never_fails_a_write(router: EmbeddedRouter) -> None:
    state = await latched(router)
    copy = router.directory / "copies" / "web.yaml"
    copy.unlink()
    copy.mkdir()  # a rename onto it fails
    assert (await router.write(state)).version == state.version + 1


def test_a_writer_that_hangs_does_not_hang_others_for_ever(tmp_path: Path) -> None:
    files = RouteFiles(tmp_path, lock_timeout=0.05)
    files.prepare()
    with (tmp_path / "locks" / "web.lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Retryable, match="another process"):
            files.remove("web")


async def test_removing_forgets_the_copy_too(router: EmbeddedRouter) -> None:
    await latched(router)
    await router.remove("web")
    await router.remove("web")
    with pytest.raises(NotFound):
        await router.read("web")
    await EmbeddedRouter(router.directory / "nowhere").remove("web")
    assert not (router.directory / "nowhere").exists()


async def test_declared_before_and_after_creation(router: EmbeddedRouter) -> None:
    api = RouteSpec(service="web", path_prefix="/api")
    await router.declare("web", api)
    state = await router.write(TrafficState(route="web", stable=OLD))
    assert "Path(`/api`)" in file_of(router).read_text()
    again = EmbeddedRouter(router.directory)
    await again.declare("web", api)
    assert await again.read("web") == state
    await again.declare("web", RouteSpec(service="web", host="a.b"))
    assert "Host(`a.b`)" in file_of(router).read_text()
    assert (await again.read("web")).version == state.version + 1
    bare = EmbeddedRouter(router.directory)
    await bare.abort("web", "x")
    assert "Host(`a.b`)" in file_of(router).read_text(), "an abort keeps what it knows nothing of"


async def test_two_routes_may_not_take_the_same_requests(router: EmbeddedRouter) -> None:
    await router.write(TrafficState(route="web", stable=OLD))
    with pytest.raises(Invalid, match="both take any host /"):
        await router.declare("blog", RouteSpec(service="blog"))
    await router.declare("blog", RouteSpec(service="blog", path_prefix="/blog"))


async def test_without_a_router_nothing_is_seen(router: EmbeddedRouter) -> None:
    await latched(router)
    assert (await router.observe("web")).weight is None
    assert await router.metrics_url("web") is None
    (router.directory / "router.json").write_text("{")
    assert (await router.observe("web")).weight is None
