"""Second persons in a cluster: asked at one replica, answered at another, used up once by all of them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.integration.cluster_door import ClusterDoor, call, connected, two_doors

from phoenix_orch.kernel.errors import NotFound, Retryable, Terminal
from phoenix_orch.orchestrator.cluster.approvals import SharedApprovals
from phoenix_orch.orchestrator.cluster.seconded_tasks import asked_for
from phoenix_orch.runtime.valkey_server import ServerInfo
from phoenix_orch.security import two_persons
from phoenix_orch.security.rights import Kind, Principal
from phoenix_orch.security.two_persons import LASTS, Approvals, State
from phoenix_orch.tasks.port import RunRequest

pytestmark = pytest.mark.anyio
TASKS = {
    "wipe": {"command": ["true"], "schedule": "0 3 * * *", "secondPerson": True},
    "tidy": {"command": ["true"]},
}
ANN, BEN, CAT = "ann:read,operate", "ben:read,operate,approve", "cat:read,operate"
ANN_MAY = "ann:read,operate,approve"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def doors(
    opened: AsyncExitStack, server: ServerInfo, tmp_path: Path, prefix: str
) -> tuple[ClusterDoor, ClusterDoor]:
    return two_doors(opened, tmp_path, server.url, prefix=prefix, tasks=TASKS)


async def ask(door: ClusterDoor, path: str = "tasks", body: Any = None) -> str:
    """The id under which it waits."""
    answer = await call(door, ANN, path, {"kind": "wipe"} if body is None else body)
    assert (answer.status_code, answer.json()["code"]) == (409, "needs_second_person"), answer.text
    waiting = (await call(door, ANN, "approvals")).json()[-1]
    assert waiting["id"] in answer.json()["remedy"]
    return str(waiting["id"])


async def test_one_replica_asks_another_agrees_and_any_acts_once(
    doors: tuple[ClusterDoor, ClusterDoor],
) -> None:
    one, other = doors
    place = f"approvals/{await ask(one, body={'kind': 'wipe', 'reason': 'moved away'})}"
    assert (await call(other, BEN, place)).json()["reason"] == "moved away"
    assert (await call(other, CAT, f"{place}/approve", {})).status_code == 403, "without the right"
    assert (await call(other, ANN_MAY, f"{place}/approve", {})).status_code == 403, "who asked"
    would = await call(other, BEN, f"{place}/approve", {"dryRun": True})
    assert (would.status_code, would.json()["state"]) == (200, "approved")
    assert (await call(one, BEN, place)).json()["state"] == "asked", "a dry run changes nothing"
    assert (await call(one, ANN, "tasks", {"kind": "wipe"})).status_code == 409, "nobody agreed yet"
    assert len((await call(one, ANN, "approvals")).json()) == 1, "the same is not asked twice"

    agreed = await call(other, BEN, f"{place}/approve", {"reason": "agreed"})
    assert (agreed.status_code, agreed.json()["state"]) == (200, "approved")
    assert (await call(one, CAT, "tasks", {"kind": "wipe"})).status_code == 409, "somebody else's"
    assert (await call(other, ANN, "tasks", {"kind": "wipe", "target": "shop"})).status_code == 409
    done = await call(other, ANN, "tasks", {"kind": "wipe"})
    assert done.status_code == 202, done.text
    assert (await call(one, BEN, place)).json()["state"] == "used"
    assert (await call(one, ANN, "tasks", {"kind": "wipe"})).status_code == 409, "it counts once"
    await asyncio.gather(one.parts.acts.drain(), other.parts.acts.drain())
    told = {door: [record.action for record in door.log.newest(100)] for door in doors}
    assert "approval.ask" in told[one]
    assert {"approval.approve", "approval.use", "task.run"} <= set(told[other])


async def test_a_repeated_key_acts_once_somebody_has_agreed(doors: tuple[ClusterDoor, ClusterDoor]) -> None:
    """The question is not the answer to the request: with the same key it is done then, and once."""
    one, other = doors
    repeats = {"idempotency-key": "k-1"}
    wipe = {"kind": "wipe"}
    async with one.http(ANN) as first, other.http(ANN) as second:
        for http in (first, second, first):
            answer = await http.post("/api/v1/tasks", json=wipe, headers=repeats)
            assert (answer.status_code, answer.json()["code"]) == (409, "needs_second_person")
            assert "idempotent-replayed" not in answer.headers
        (waiting,) = (await first.get("/api/v1/approvals")).json()
        assert (await call(other, BEN, f"approvals/{waiting['id']}/approve", {})).status_code == 200
        done = await first.post("/api/v1/tasks", json=wipe, headers=repeats)
        assert done.status_code == 202, done.text
        again = await first.post("/api/v1/tasks", json=wipe, headers=repeats)
        assert (again.json()["id"], again.headers["idempotent-replayed"]) == (done.json()["id"], "true")
        page = (await second.get("/api/v1/tasks")).json()["items"]
        assert [task["id"] for task in page] == [done.json()["id"]]


async def test_what_a_command_destroys_elsewhere_is_asked_here_and_agreed_to_at_any_replica(
    doors: tuple[ClusterDoor, ClusterDoor],
) -> None:
    """Restores, keys and backups that stay: `phoenix --server` asks before it does them (ADR 0053)."""
    one, other = doors
    admin, second = "ann:read,operate,approve,administer", BEN
    restore = {"action": "restore.redis", "target": "redis/cache plan 0123456789ab", "reason": "lost"}
    assert (await call(one, second, "approvals", restore)).status_code == 403
    asked = await call(one, admin, "approvals", restore)
    assert (asked.status_code, asked.json()["code"]) == (409, "needs_second_person")
    (waiting,) = (await call(other, second, "approvals")).json()
    assert (await call(other, second, f"approvals/{waiting['id']}/approve", {})).status_code == 200
    another = {**restore, "target": "redis/cache plan ba9876543210"}
    assert (await call(other, admin, "approvals", another)).status_code == 409, "another plan"
    done = await call(other, admin, "approvals", restore)
    assert (done.status_code, done.json()) == (200, {"wanted": True})
    assert (await call(one, admin, "approvals", restore)).status_code == 409, "once"
    await other.parts.acts.drain()
    assert "approval.use" in [record.action for record in other.log.newest(100)]


async def test_what_destroys_nothing_asks_nobody(doors: tuple[ClusterDoor, ClusterDoor]) -> None:
    one, _ = doors
    assert (await call(one, ANN, "tasks", {"kind": "tidy"})).status_code == 202
    assert (await call(one, ANN, "tasks", {"kind": "wipe", "dryRun": True})).status_code == 202
    assert (await call(one, ANN, "tasks", {"kind": "nothing"})).status_code == 404
    assert (await call(one, ANN, "approvals")).json() == []
    assert (await call(one, ANN, "approvals/nobody")).status_code == 404


async def test_an_approval_is_refused_taken_back_and_runs_out_at_any_replica(
    doors: tuple[ClusterDoor, ClusterDoor],
) -> None:
    one, other = doors
    refused = f"approvals/{await ask(one)}"
    assert (await call(other, CAT, f"{refused}/refuse", {})).status_code == 403
    assert (await call(other, BEN, f"{refused}/refuse", {})).json()["state"] == "refused"
    assert (await call(one, BEN, f"{refused}/approve", {})).status_code == 409
    taken = f"approvals/{await ask(one)}"
    assert (await call(other, ANN, f"{taken}/refuse", {})).json()["state"] == "refused"
    late = f"approvals/{await ask(one)}"
    assert (await call(one, BEN, f"{late}/approve", {})).status_code == 200
    other.moved = LASTS
    assert (await call(other, BEN, late)).json()["state"] == "expired"
    assert (await call(other, ANN, "tasks", {"kind": "wipe"})).status_code == 409


async def test_a_slot_run_by_hand_and_a_run_once_more_take_two_persons_too(
    doors: tuple[ClusterDoor, ClusterDoor],
) -> None:
    one, other = doors
    place = f"approvals/{await ask(one, 'schedules/wipe/run', {})}"
    assert (await call(other, BEN, f"{place}/approve", {})).status_code == 200
    begun = await call(other, ANN, "schedules/wipe/run", {})
    assert begun.status_code == 202, begun.text
    task = begun.json()["id"]
    assert (await call(one, ANN, f"tasks/{task}/cancel", {})).status_code == 202
    place = f"approvals/{await ask(one, f'tasks/{task}/retry', {})}"
    assert (await call(other, BEN, f"{place}/approve", {})).status_code == 200
    again = await call(one, ANN, f"tasks/{task}/retry", {})
    assert again.status_code == 202, again.text


async def test_of_two_replicas_that_answer_or_act_at_once_one_does(
    doors: tuple[ClusterDoor, ClusterDoor],
) -> None:
    one, other = doors
    for _ in range(5):
        place = f"approvals/{await ask(one)}"
        answers = await asyncio.gather(
            call(one, BEN, f"{place}/approve", {}), call(other, BEN, f"{place}/refuse", {})
        )
        assert sorted(answer.status_code for answer in answers) == [200, 409]
        if answers[0].status_code != 200:
            continue
        runs = await asyncio.gather(*(call(door, ANN, "tasks", {"kind": "wipe"}) for door in doors * 4))
        assert sorted(run.status_code for run in runs) == [202] + [409] * 7
        for waiting in (await call(one, ANN, "approvals")).json():
            if waiting["state"] == "asked":
                await call(one, ANN, f"approvals/{waiting['id']}/refuse", {})


async def test_without_the_store_nothing_destroys(opened: AsyncExitStack, tmp_path: Path) -> None:
    door = ClusterDoor(opened, tmp_path / "one", "redis://127.0.0.1:1/0", tasks=TASKS)
    assert (await call(door, ANN, "approvals")).status_code == 503
    assert (await call(door, ANN, "tasks", {"kind": "wipe"})).status_code == 503


# -- the book ----------------------------------------------------------------------------------------


def somebody(number: int) -> Principal:
    return Principal(f"person-{number}", Kind.KUBERNETES)


async def test_no_question_is_lost_where_many_are_asked_at_once(
    opened: AsyncExitStack, server: ServerInfo, prefix: str
) -> None:
    books = [SharedApprovals(connected(opened, server.url), prefix=prefix) for _ in range(4)]

    async def one(number: int) -> None:
        await books[number % 4].change(
            lambda held: two_persons.ask(
                held, f"a{number}", "task.run", "task/wipe", by=somebody(number), reason="", now=NOW
            )
        )

    await asyncio.gather(*(one(number) for number in range(12)))
    assert set((await books[0].read()).approvals) == {f"a{number}" for number in range(12)}


async def test_a_change_is_made_anew_where_another_was_faster(
    opened: AsyncExitStack, server: ServerInfo, prefix: str
) -> None:
    """With the other's change in between reading and writing, and so only one of two uses it up."""
    client = connected(opened, server.url)
    book, other = (SharedApprovals(client, prefix=prefix) for _ in range(2))
    asked = {"by": somebody(1), "reason": "", "now": NOW}
    await book.change(lambda held: two_persons.ask(held, "a", "task.run", "x", **asked))
    answer = {"by": somebody(2), "agrees": True, "words": "", "now": NOW}
    await book.change(lambda held: two_persons.answer(held, "a", **answer))

    async def use(which: SharedApprovals) -> object:
        return await which.change(
            lambda held: two_persons.use(held, "task.run", "x", by=somebody(1), now=NOW)
        )

    seen: list[State] = []
    read = book._read

    async def late() -> tuple[str, Approvals]:
        found = await read()
        seen.append(found[1].approvals["a"].state)
        if len(seen) == 1:
            assert await use(other) is not None
        return found

    book._read = late  # type: ignore[method-assign]
    assert await use(book) is None
    assert seen == [State.APPROVED, State.USED]


async def test_what_a_change_raises_changes_nothing(
    opened: AsyncExitStack, server: ServerInfo, prefix: str
) -> None:
    client = connected(opened, server.url)
    book = SharedApprovals(client, prefix=prefix)
    words = {"by": somebody(1), "agrees": True, "words": "", "now": NOW + timedelta(1)}
    with pytest.raises(NotFound):
        await book.change(lambda held: two_persons.answer(held, "a", **words))
    assert await client.exists(f"{prefix}approvals") == 0


async def test_what_somebody_else_wrote_there_lets_nothing_through(
    opened: AsyncExitStack, server: ServerInfo, prefix: str
) -> None:
    client = connected(opened, server.url)
    await client.hset(f"{prefix}approvals", mapping={"version": "x", "content": '{"approvals": "secret"}'})
    with pytest.raises(Terminal) as told:
        await SharedApprovals(client, prefix=prefix).read()
    assert "secret" not in str(told.value)
    await client.delete(f"{prefix}approvals")
    await client.set(f"{prefix}approvals", "text")
    with pytest.raises(Terminal):
        await SharedApprovals(client, prefix=prefix).read()
    with pytest.raises(Retryable):
        await SharedApprovals(connected(opened, "redis://127.0.0.1:1/0"), prefix=prefix).read()


def test_an_approval_is_for_what_was_asked_and_nothing_else() -> None:
    asked = RunRequest(kind="wipe", reason="one")
    assert asked_for(asked) == asked_for(asked.model_copy(update={"reason": "another"}))
    others = [
        {"arguments": {"all": True}},
        {"target": "shop"},
        {"key": "k"},
        {"after": NOW},
        {"kind": "tidy"},
    ]
    texts = {asked_for(asked.model_copy(update=other)) for other in others}
    assert len(texts | {asked_for(asked)}) == len(others) + 1
