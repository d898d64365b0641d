"""What every RolloutStore has to do, as checks that need nothing but an empty store.

    @pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
    async def test_contract(check, my_store):
        await check(my_store)

Those about what is kept beside a rollout are in `store_log_contract`, and among these.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from phoenix_orch.kernel.errors import Conflict, NotFound
from phoenix_orch.rollout.status import CommandKind, State, Status, Verification
from phoenix_orch.rollout.store.store import RolloutStore
from phoenix_orch.testing.refusals import refused
from phoenix_orch.testing.store_log_contract import LOG_CONTRACT
from phoenix_orch.testing.store_samples import (
    NOW,
    SHOP,
    VERDICT,
    at,
    cause,
    command,
    event,
    observation,
    release,
    revision,
)

Check = Callable[[RolloutStore], Awaitable[None]]


async def an_empty_store_has_nothing(store: RolloutStore) -> None:
    assert await store.rollouts() == []
    await refused(store.get("shop"), NotFound)
    assert await store.events("shop") == []
    assert await store.history("shop") == []
    assert await store.revisions("shop") == []
    assert await store.observations("shop") == []
    assert await store.verdict("shop") is None
    assert await store.judged("shop") is None
    assert await store.verification("shop") is None
    assert await store.cause("shop", "bbbb000000") is None
    await store.clear_cause("shop", "bbbb000000")
    await store.remove("shop")


async def nothing_is_written_to_an_unknown_rollout(store: RolloutStore) -> None:
    await refused(store.command("shop", command("c1")), NotFound)
    await refused(store.append_events("shop", [event(1)]), NotFound)
    await refused(store.append_observation("shop", observation(1)), NotFound)
    await refused(store.put_verdict("shop", VERDICT, "{}"), NotFound)
    await refused(store.put_cause("shop", cause("why")), NotFound)
    await refused(
        store.put_verification(
            "shop", Verification(kind="promotion", revision="bbbb000000", release=1, at=NOW)
        ),
        NotFound,
    )
    await refused(store.save(SHOP.model_copy(update={"version": 1}), Status(), events=[event(1)]), Conflict)
    await refused(store.save(SHOP, Status(), events=[event(1)]), Conflict)
    await refused(store.put(SHOP.model_copy(update={"version": 1})), Conflict)
    await store.put(SHOP)
    assert await store.events("shop") == []
    assert await store.observations("shop") == []


async def version_0_creates_once(store: RolloutStore) -> None:
    created = await store.put(SHOP)
    assert created.version > 0
    assert created == SHOP.model_copy(update={"version": created.version})
    assert await store.get("shop") == created
    await refused(store.put(SHOP), Conflict)
    assert await store.get("shop") == created


async def a_new_rollout_starts_without_status_and_commands(store: RolloutStore) -> None:
    given = SHOP.model_copy(update={"status": Status(release=7), "commands": (command("c1"),)})
    created = await store.put(given)
    assert created.status == Status()
    assert created.commands == ()


async def put_replaces_what_is_wanted_and_nothing_else(store: RolloutStore) -> None:
    created = await store.put(SHOP)
    await store.command("shop", command("c1"))
    saved = await store.save(await store.get("shop"), Status(release=3, stable="aaaa000000"))
    wanted = saved.model_copy(
        update={
            "target": "bbbb000000",
            "replicas": 9,
            "fast": True,
            "status": Status(),
            "commands": (),
        }
    )
    written = await store.put(wanted)
    assert written.version > saved.version > created.version
    assert written.status == saved.status
    assert written.commands == saved.commands == (command("c1"),)
    assert (written.target, written.replicas, written.fast) == ("bbbb000000", 9, True)
    assert await store.get("shop") == written


async def an_old_version_conflicts_and_changes_nothing(store: RolloutStore) -> None:
    old = await store.put(SHOP)
    current = await store.save(old, Status(release=1), events=[event(1)])
    await refused(store.put(old.model_copy(update={"replicas": 5})), Conflict)
    await refused(
        store.save(old, Status(release=2), events=[event(2)], release=release(2)),
        Conflict,
    )
    await refused(store.put(current.model_copy(update={"version": current.version + 1})), Conflict)
    assert await store.get("shop") == current
    assert await store.events("shop") == [event(1)]
    assert await store.history("shop") == []


async def one_of_many_writers_wins(store: RolloutStore) -> None:
    created = await store.put(SHOP)

    async def write(number: int) -> int:
        try:
            await store.save(created, Status(release=number), events=[event(number)])
        except Conflict:
            return 0
        return number

    winners = [number for number in await asyncio.gather(*map(write, range(1, 11))) if number]
    assert len(winners) == 1
    assert (await store.get("shop")).status.release == winners[0]
    assert await store.events("shop") == [event(winners[0])]


async def a_save_is_one_step(store: RolloutStore) -> None:
    await store.put(SHOP)
    for identity in ("c1", "c2", "c3"):
        await store.command("shop", command(identity))
    before = await store.get("shop")
    assert [waiting.id for waiting in before.commands] == ["c1", "c2", "c3"]
    status = Status(
        state=State.PROGRESSING,
        since=NOW,
        message="5 % for 10m",
        stable="aaaa000000",
        canary="bbbb000000",
        release=1,
        step_clock=at(1),
        weight=5,
        cause=cause("before"),
        handled=("c0", "c1", "c3"),
    )
    saved = await store.save(before, status, events=[event(1), event(2)], release=release(1))
    assert saved.status == status
    assert saved.commands == (command("c2"),)
    assert saved.version > before.version
    assert await store.get("shop") == saved
    assert await store.events("shop") == [event(1), event(2)]
    assert await store.history("shop") == [release(1)]


async def save_writes_the_status_alone(store: RolloutStore) -> None:
    created = await store.put(SHOP)
    meddled = created.model_copy(update={"replicas": 50, "commands": (command("made-up"),)})
    saved = await store.save(meddled, Status(release=1))
    assert saved.replicas == SHOP.replicas
    assert saved.commands == ()
    assert await store.get("shop") == saved


async def a_command_is_kept_once_and_makes_older_decisions_conflict(store: RolloutStore) -> None:
    read = await store.put(SHOP)
    await store.command("shop", command("c1", CommandKind.ABORT))
    await refused(store.save(read, Status(weight=20)), Conflict)
    await store.command("shop", command("c1", CommandKind.ABORT))
    read = await store.get("shop")
    assert read.commands == (command("c1", CommandKind.ABORT),)
    handled = await store.save(read, Status(handled=("c1",)))
    assert handled.commands == ()
    await store.command("shop", command("c1", CommandKind.ABORT))
    assert await store.get("shop") == handled


async def rollouts_come_by_name_and_apart(store: RolloutStore) -> None:
    for name in ("shop", "api", "web-2"):
        await store.put(SHOP.model_copy(update={"name": name}))
    await store.command("api", command("c1"))
    await store.append_events("web-2", [event(1)])
    found = await store.rollouts()
    assert [rollout.name for rollout in found] == ["api", "shop", "web-2"]
    assert found == [await store.get(rollout.name) for rollout in found]
    assert await store.events("shop") == []


async def remove_forgets_everything(store: RolloutStore) -> None:
    read = await store.put(SHOP)
    await store.add_revision("shop", revision(1))
    await store.command("shop", command("c1"))
    await store.append_observation("shop", observation(1))
    await store.put_verdict("shop", VERDICT, "{}")
    await store.put_cause("shop", cause("why"))
    await store.put_verification(
        "shop", Verification(kind="promotion", revision="bbbb000000", release=1, at=NOW)
    )
    read = await store.get("shop")
    read = await store.save(read, Status(release=1), events=[event(1)], release=release(1))
    await store.remove("shop")
    await an_empty_store_has_nothing(store)
    created = await store.put(SHOP)
    assert created.commands == ()
    assert created.status == Status()
    assert await store.events("shop") == []
    assert (await store.add_revision("shop", revision(2))).number == 1


async def a_writer_from_before_a_removal_does_not_win(store: RolloutStore) -> None:
    old = await store.put(SHOP)
    await store.remove("shop")
    created = await store.put(SHOP)
    assert created.version > old.version
    await refused(store.save(old, Status(release=1)), Conflict)
    assert await store.get("shop") == created


async def watch_tells_names(store: RolloutStore) -> None:
    names: asyncio.Queue[str] = asyncio.Queue()

    async def listen() -> None:
        async for name in store.watch(timeout=timedelta(seconds=30)):
            names.put_nowait(name)

    async def told(name: str) -> None:
        while await names.get() != name:
            pass

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        listener = group.create_task(listen())
        await told("")  # from here on nothing is missed
        read = await store.put(SHOP)
        await told("shop")
        await store.save(read, Status(release=1))
        await told("shop")
        await store.command("shop", command("c1"))
        await told("shop")
        await store.put_verdict("shop", VERDICT, "{}")
        await told("shop")
        await store.put_cause("shop", cause("why"))
        await told("shop")
        await store.remove("shop")
        await told("shop")
        listener.cancel()


async def watch_speaks_up_in_silence(store: RolloutStore) -> None:
    async with asyncio.timeout(10):
        count = 0
        async for name in store.watch(timeout=timedelta(milliseconds=20)):
            assert name == ""
            count += 1
            if count == 5:
                break


CONTRACT: tuple[Check, ...] = (
    an_empty_store_has_nothing,
    nothing_is_written_to_an_unknown_rollout,
    version_0_creates_once,
    a_new_rollout_starts_without_status_and_commands,
    put_replaces_what_is_wanted_and_nothing_else,
    an_old_version_conflicts_and_changes_nothing,
    one_of_many_writers_wins,
    a_save_is_one_step,
    save_writes_the_status_alone,
    a_command_is_kept_once_and_makes_older_decisions_conflict,
    rollouts_come_by_name_and_apart,
    remove_forgets_everything,
    a_writer_from_before_a_removal_does_not_win,
    watch_tells_names,
    watch_speaks_up_in_silence,
    *LOG_CONTRACT,
)
