"""What becomes of the files when hands, other programs and the disk interfere."""

import contextlib
import errno
import fcntl
import os
import socket
from pathlib import Path

import pytest
import structlog

from phoenix_orch.kernel.errors import Invalid, NotFound, Retryable
from phoenix_orch.testing.loopback import named_server, quiet_port
from phoenix_orch.testing.router_contract import NEW, OLD, group
from phoenix_orch.traffic.embedded import EmbeddedRouter
from phoenix_orch.traffic.route_files import RouteFiles
from phoenix_orch.traffic.router import Group, TrafficState
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
    return router.directory / "dynamic" / "routes.yaml"


@pytest.mark.parametrize("harm", ["deleted", "emptied", "torn", "header edited", "body edited", "replaced"])
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
            "replaced": "http: {}\n",
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


@pytest.mark.parametrize("harm", ["text", "directory", "no rights"])
async def test_what_is_not_ours_is_put_aside_and_cannot_be_in_the_way(
    router: EmbeddedRouter, harm: str
) -> None:
    state = await router.write(TrafficState(route="web", stable=OLD))
    await router.write(state.model_copy(update={"canary": NEW, "weight": 40}))
    path, theirs = file_of(router), "http: {}\n"
    path.unlink()
    if harm == "directory":
        path.mkdir()
        (path / "note").write_text(theirs)
    else:
        path.write_text(theirs)
    if harm == "no rights" and os.getuid() != 0:
        path.chmod(0)
    with structlog.testing.capture_logs() as logs:
        after = await router.abort("web", "new")
    assert (after.weight, after.aborted) == (0, ("new",))
    assert await router.read("web") == after
    (kept,) = (router.directory / "put-aside").iterdir()
    assert [log["kept"] for log in logs] == [str(kept)]
    if harm == "no rights":
        kept.chmod(0o600)
    assert (kept / "note" if harm == "directory" else kept).read_text() == theirs


async def test_the_same_foreign_text_is_kept_once(router: EmbeddedRouter) -> None:
    await latched(router)
    for _ in range(3):
        file_of(router).write_text("http: {}\n")
        await router.abort("web", "new")
    assert len(list((router.directory / "put-aside").iterdir())) == 1


async def test_other_files_beside_the_table_mean_nothing(router: EmbeddedRouter) -> None:
    state = await latched(router)
    theirs = [file_of(router).with_name(name) for name in ("theirs.yaml", ".hidden.yaml", "blog.toml")]
    for path in theirs:
        path.write_text("http: [\n")
    assert await router.read("web") == state
    assert await router.routes() == ("web",)
    assert (await router.write(state)).version == state.version + 1
    assert [path.read_text() for path in theirs] == ["http: [\n"] * 3


async def test_torn_without_a_copy_is_as_if_there_were_none(router: EmbeddedRouter) -> None:
    await latched(router)
    (router.directory / "copies" / "routes.yaml").unlink()
    file_of(router).write_text("# phoenix: 0 {")
    with pytest.raises(NotFound):
        await router.read("web")
    assert (await router.write(TrafficState(route="web", stable=OLD))).version == 1


async def test_a_table_put_back_from_before_the_latch_does_not_lose_it(router: EmbeddedRouter) -> None:
    state = await router.write(TrafficState(route="web", stable=OLD))
    await router.write(state.model_copy(update={"canary": NEW, "weight": 40}))
    before = file_of(router).read_text()
    after = await router.abort("web", "new")
    file_of(router).write_text(before)
    assert await router.read("web") == after.model_copy(update={"drifted": True})


async def test_the_table_of_another_release_is_left_as_it_is(router: EmbeddedRouter) -> None:
    await latched(router)
    theirs = '# phoenix: 0 {"format":3}\n'
    file_of(router).write_text(theirs)
    for call in (router.read("web"), router.abort("web", "new"), router.remove("web")):
        with pytest.raises(Invalid, match=r"routes\.yaml cannot be read: its format is 3"):
            await call
    assert file_of(router).read_text() == theirs


async def test_restore_puts_every_route_back(router: EmbeddedRouter) -> None:
    await latched(router)
    await router.declare("blog", RouteSpec(service="blog", path_prefix="/blog"))
    good = file_of(router).read_text()
    files = RouteFiles(router.directory)
    assert not files.restore()
    for harm in ("", "http: {}\n", good.replace('"weight": 0', '"weight": 90')):
        file_of(router).write_text(harm)
        assert files.marker() is None
        assert files.restore()
        assert file_of(router).read_text() == good
    file_of(router).unlink()
    assert files.restore()
    assert file_of(router).read_text() == good


async def test_a_declared_route_waits_until_it_has_an_object(router: EmbeddedRouter) -> None:
    blog = RouteSpec(service="blog", path_prefix="/blog")
    await router.declare("blog", blog)
    again = EmbeddedRouter(router.directory)
    assert await again.routes() == ()
    with pytest.raises(NotFound):
        await again.read("blog")
    await router.write(TrafficState(route="blog", stable=OLD))
    assert RouteFiles(router.directory).table().waiting == {}
    assert "/blog" in file_of(router).read_text()
    assert await router.routes() == ("blog",)


async def test_what_waits_of_an_earlier_configuration_makes_room(router: EmbeddedRouter) -> None:
    await router.declare("old", RouteSpec(service="old", path_prefix="/x"))
    again = EmbeddedRouter(router.directory)
    await again.declare("new", RouteSpec(service="new", path_prefix="/x"))
    assert set(RouteFiles(router.directory).table().waiting) == {"new"}


async def test_what_is_only_expected_changes_nothing_that_is_known(router: EmbeddedRouter) -> None:
    state = await router.write(TrafficState(route="web", stable=OLD))
    before = file_of(router).read_text()
    await router.expect("web", RouteSpec(service="web", path_prefix="/elsewhere"))
    await router.expect("blog", RouteSpec(service="blog"))
    assert file_of(router).read_text() == before
    assert await router.read("web") == state
    await router.expect("blog", RouteSpec(service="blog", path_prefix="/blog"))
    assert set(RouteFiles(router.directory).table().waiting) == {"blog"}


async def test_the_reserve_grows_with_the_table(router: EmbeddedRouter) -> None:
    many = tuple(f"revision-{number:06}" for number in range(5000))
    await router.write(TrafficState(route="web", stable=OLD, aborted=many))
    reserve = router.directory / "scratch" / "reserve"
    assert reserve.stat().st_size >= 2 * file_of(router).stat().st_size > 128 * 1024


async def test_only_files_for_traefik_lie_in_its_directory(router: EmbeddedRouter) -> None:
    await latched(router)
    assert [path.name for path in file_of(router).parent.iterdir()] == ["routes.yaml"]
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
    copy = router.directory / "copies" / "routes.yaml"
    copy.unlink()
    copy.mkdir()  # a rename onto it fails
    assert (await router.write(state)).version == state.version + 1


def test_a_writer_that_hangs_does_not_hang_others_for_ever(tmp_path: Path) -> None:
    files = RouteFiles(tmp_path, lock_timeout=0.05)
    files.prepare()
    with (tmp_path / "locks" / "routes.lock").open("a") as held:
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
    assert await router.metrics_page("web") is None
    (router.directory / "router.json").write_text("{")
    assert (await router.observe("web")).weight is None


async def test_addresses_at_which_nobody_listens_leave_the_table_and_nothing_else_does(
    router: EmbeddedRouter,
) -> None:
    dead = [quiet_port() for _ in range(3)]
    async with named_server("old") as living:
        state = TrafficState(route="web", stable=group("old", living, dead[0]), canary=group("new", dead[1]))
        state = await router.write(state.model_copy(update={"weight": 20, "previous": group("was", dead[2])}))
        await router.abort("web", "bad")
        before = await router.read("web")
        assert await router.drop_refusing() == {f"http://127.0.0.1:{port}" for port in dead[:2]}
    after = await router.read("web")
    assert after == before.model_copy(
        update={
            "version": before.version + 1,
            "stable": group("old", living),
            "canary": Group(revision="new"),
        }
    )
    await router.drop_refusing()
    gone = await router.read("web")
    assert (gone.stable, gone.aborted, gone.weight) == (Group(revision="old"), ("bad",), 20)
    assert await router.drop_refusing() == frozenset()
    assert await router.read("web") == gone, "nothing to do writes nothing"
    back = await router.write(gone.model_copy(update={"stable": group("old", living)}))
    assert back.stable.backends


async def test_who_does_not_answer_is_not_taken_for_gone(
    router: EmbeddedRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listener that is too busy to take connections, as one that was stopped under load."""
    monkeypatch.setattr("phoenix_orch.traffic.refusing.PATIENCE", 0.1)
    with contextlib.ExitStack() as stack:
        busy = stack.enter_context(socket.create_server(("127.0.0.1", quiet_port()), backlog=0))
        port = busy.getsockname()[1]
        waiting = [stack.enter_context(socket.socket()) for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        await router.write(TrafficState(route="web", stable=group("old", port)))
        assert await router.drop_refusing() == frozenset()


async def test_without_routes_there_is_nothing_to_drop(router: EmbeddedRouter) -> None:
    assert await router.drop_refusing() == frozenset()


async def test_all_routes_lose_dead_addresses_in_one_write(
    router: EmbeddedRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each write is fsynced: one for each of many services would keep their users waiting."""
    for number in range(12):
        await router.declare(f"s{number}", RouteSpec(service="web", path_prefix=f"/{number}"))
        await router.write(TrafficState(route=f"s{number}", stable=group("old", quiet_port())))
    puts: list[object] = []
    put = RouteFiles._put
    monkeypatch.setattr(
        RouteFiles, "_put", lambda self, *args, **more: (puts.append(args), put(self, *args, **more))
    )
    assert len(await router.drop_refusing()) == 12
    assert len(puts) == 1
    states = [await router.read(f"s{number}") for number in range(12)]
    assert {(state.stable.backends, state.version, state.drifted) for state in states} == {((), 2, False)}
