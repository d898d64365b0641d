"""Two restores into one server, typed on two machines: one at a time, whoever dies on the way."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.backup_stage import IDENTITY, SIGNER, stage
from tests.redis_restoring import taken
from tests.redis_server import Server, filled, serving, until

from phoenix_orch.kernel.errors import BadState, Conflict, PhoenixError, Terminal
from phoenix_orch.orchestrator.redis_restore import How, RedisRestore
from phoenix_orch.recovery.folder_store import FolderStore
from phoenix_orch.recovery.lease import leases
from phoenix_orch.recovery.restore import claim
from phoenix_orch.recovery.restore.journal import Entry, Journal, State
from phoenix_orch.recovery.restore.redis_keys import Conflict as Policy
from phoenix_orch.recovery.restore.redis_keys import Selection

pytestmark = pytest.mark.timeout(240)
ANOTHER = "another restore into this server is on its way"


class Machines:
    """A server, a storage with its backup, and machines with a data directory each."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder, self.server = folder, server
        filled(server.client(), 30, "good:")
        taken(stage(folder / "bucket"), server.address)
        shutil.rmtree(folder / "bucket" / "locks")  # of a fake lease
        self.good = server.digest()
        server.ask("FLUSHALL")
        filled(server.client(), 4, "bad:")
        (folder / "key").write_text(f"{IDENTITY.key}\n")
        self.told: list[str] = []

    def machine(self, name: str) -> RedisRestore:
        return RedisRestore(self.folder / name, os.environ, by=name, tell=self.told.append)

    @property
    def how(self) -> How:
        return How(
            storage=str(self.folder / "bucket"),
            identity=str(self.folder / "key"),
            signed_by=(SIGNER.public,),
            component="redis/cache",
            target=f"127.0.0.1:{self.server.port}",
        )

    def planned(self, name: str) -> tuple[RedisRestore, str, str]:
        restores = self.machine(name)
        plan = restores.plan(self.how, "latest", None, dead=False)
        return restores, plan.id, plan.hash

    def killed(self, name: str, plan: str, hash_: str, state: State) -> None:
        """A process on that machine that dies when its journal says `state`."""
        child = os.fork()
        if child == 0:
            try:
                restores = self.machine(name)
                restores.journal = _Dying(self.folder / name / "restores", state)
                restores.run(plan, hash_)
            finally:
                os._exit(1)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1])


class _Dying(Journal):
    def __init__(self, directory: Path, state: State) -> None:
        super().__init__(directory)
        self._state = state

    def write(self, entry: Entry) -> Entry:
        super().write(entry)
        if entry.state is self._state:
            os.kill(os.getpid(), signal.SIGKILL)
        return entry


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    with serving(tmp_path / "server") as server:
        yield Machines(tmp_path, server)


def test_while_one_restores_another_waits_and_then_finds_its_plan_as_it_was(machines: Machines) -> None:
    one, plan, hash_ = machines.planned("one")
    other, other_plan, other_hash = machines.planned("other")
    here, go_on = threading.Event(), threading.Event()

    def pausing(words: str) -> None:
        if "rehearsal" in words:
            here.set()
            assert go_on.wait(120)

    one._tell = pausing
    ended: list[Entry] = []
    thread = threading.Thread(target=lambda: ended.append(one.run(plan, hash_)))
    thread.start()
    try:
        assert here.wait(120)
        with pytest.raises(BadState, match=ANOTHER) as caught:
            other.run(other_plan, other_hash)
        assert "phoenix restore abort" in caught.value.remedy
        overwriting = Selection("good:*", conflict=Policy.OVERWRITE)
        counted = other.keys(machines.how, "latest", None, overwriting, "")
        with pytest.raises(BadState, match=ANOTHER):
            other.keys(machines.how, "latest", None, overwriting, counted.hash)
    finally:
        go_on.set()
        thread.join()
    assert [one.state for one in ended] == [State.DONE]
    assert machines.server.digest() == machines.good
    assert other.journal.read(other_plan).state is State.PLANNED
    assert other.run(other_plan, other_hash).state is State.DONE


@pytest.mark.parametrize("state", [State.COPYING, State.STAGING, State.CUTTING])
def test_who_died_goes_on_at_once_and_others_do_not(machines: Machines, state: State) -> None:
    _, plan, hash_ = machines.planned("one")
    other, other_plan, other_hash = machines.planned("other")
    machines.killed("one", plan, hash_, state)
    with pytest.raises(PhoenixError, match=ANOTHER):
        other.run(other_plan, other_hash)
    assert machines.machine("one").run(plan, hash_).state is State.DONE
    assert machines.server.digest() == machines.good


def test_another_machine_goes_on_when_the_claim_of_the_dead_has_run_out(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim, "leases", functools.partial(leases, ttl=timedelta(seconds=3)))
    _, plan, hash_ = machines.planned("one")
    other, other_plan, other_hash = machines.planned("other")
    machines.killed("one", plan, hash_, State.STAGING)
    ended: list[Entry] = []

    def goes_on() -> bool:
        try:
            ended.append(other.run(other_plan, other_hash))
        except BadState:
            return False
        return True

    until(goes_on, within=90)
    assert ended[0].state is State.DONE
    assert machines.server.digest() == machines.good


def test_a_claim_that_was_lost_changes_nothing(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine stood still for longer than its claim lasted: what it has proven is not committed."""
    one, plan, hash_ = machines.planned("one")
    before = machines.server.digest()
    store = FolderStore(machines.folder / "bucket")

    def losing(words: str) -> None:
        if "takes the copy" in words:
            (found,) = store.list("locks/restores/")
            raw, stat = store.get(found.key)
            store.replace(found.key, raw.replace(b"/", b"#"), stat.etag)
            held[0].renew_fails()

    held: list[_Stopped] = []
    monkeypatch.setattr(claim, "leases", functools.partial(_stopped_leases, held))
    one._tell = losing
    with pytest.raises(Conflict, match="was"):
        one.run(plan, hash_)
    assert machines.server.digest() == before
    assert machines.server.client().info("replication")["role"] == "master"
    assert one.journal.read(plan).state is State.FAILED


class _Stopped:
    """A lease whose keeper stands still until it is asked to renew, and finds it lost."""

    def __init__(self, lease: object) -> None:
        self._lease = lease

    def check(self) -> None:
        self._lease.check()  # type: ignore[attr-defined]

    def renew_fails(self) -> None:
        with pytest.raises(Conflict):
            self._lease.renew()  # type: ignore[attr-defined]


def _stopped_leases(held: list[_Stopped], store: FolderStore, holder: str, *, heir: bool) -> object:
    take = leases(store, holder, heir=heir)

    def lease(key: str) -> object:
        manager = take(key)

        class Wrapped:
            def __enter__(self) -> _Stopped:
                held.append(_Stopped(manager.__enter__()))
                return held[-1]

            def __exit__(self, *error: object) -> None:
                manager.__exit__(None, None, None)

        return Wrapped()

    return lease


def test_a_storage_that_cannot_be_written_keeps_nobody_from_a_restore(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> object:
        raise Terminal("the bucket refuses access for locks/restores")

    monkeypatch.setattr(claim, "leases", lambda *_, **__: refused)
    restores = machines.machine("one")
    plan = restores.plan(machines.how, "latest", None, dead=True)
    assert restores.run(plan.id, plan.hash).state is State.DONE
    assert any("other machines are not kept away" in words for words in machines.told)
