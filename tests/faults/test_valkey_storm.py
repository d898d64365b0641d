"""Writers in a storm of deaths: of the server, of the client, of the end of the data file.

Every save of the writers raises `status.release` by one and tells an event with that number. So the
store is right exactly when the events are 1, 2, … up to the release in the status: a lost write, a write
that was applied twice and a status without its event would all show.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from phoenix_orch.kernel.errors import Conflict, Retryable
from phoenix_orch.rollout.status import Rollout
from phoenix_orch.rollout.store.memory import MemoryStore
from phoenix_orch.rollout.store.store import RolloutStore
from phoenix_orch.rollout.store.valkey import ValkeyStore
from phoenix_orch.runtime import detached
from phoenix_orch.runtime.valkey_server import ServerInfo, ValkeyServer
from phoenix_orch.testing.store_samples import (
    SHOP,
    VERDICT,
    cause,
    command,
    event,
    observation,
    release,
    revision,
)


@pytest.fixture
async def keeper(tmp_path: Path) -> AsyncIterator[ValkeyServer]:
    keeper = ValkeyServer(tmp_path / "valkey")
    yield keeper
    await keeper.stop()


async def kill(info: ServerInfo) -> None:
    assert info.process is not None
    detached.send(info.process, signal.SIGKILL)
    await detached.ended(info.process)


async def write(store: RolloutStore, read: Rollout) -> Rollout:
    number = read.status.release + 1
    status = read.status.model_copy(update={"release": number, "handled": (f"c{number}",)})
    return await store.save(read, status, events=[event(number)], release=release(number))


async def whole(store: RolloutStore) -> int:
    """Check that no save is there in part; the number of the last one."""
    last = (await store.get("shop")).status.release
    assert [e.release for e in await store.events("shop", limit=20_000)] == list(range(1, last + 1))
    kept = range(last, max(0, last - 200), -1)
    assert [r.number for r in await store.history("shop", limit=1000)] == list(kept)
    return last


async def test_kill_9_of_the_server_in_a_write_storm_loses_nothing_acknowledged(
    keeper: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detached, "SLOWEST_RESTART", 0.1)
    chance = random.Random(20)
    info = await keeper.ensure()
    stores = [ValkeyStore(info.url) for _ in range(3)]
    await stores[0].put(SHOP)
    acknowledged = 0
    version = 0
    storming = True

    async def writer(store: ValkeyStore) -> None:
        nonlocal acknowledged, version
        while storming:
            try:
                seen, told = version, acknowledged
                read = await store.get("shop")
                assert read.version >= seen, "a version went backwards"
                assert read.status.release >= told, "an acknowledged save is gone"
                version = max(version, read.version)
                written = await write(store, read)
            except Conflict:
                continue
            except Retryable:
                await asyncio.sleep(0.01)
                continue
            acknowledged = max(acknowledged, written.status.release)
            version = max(version, written.version)

    async with asyncio.TaskGroup() as group:
        running = group.create_task(keeper.run())
        writers = [group.create_task(writer(store)) for store in stores]
        for _ in range(25):
            await asyncio.sleep(chance.uniform(0.005, 0.15))
            current = await ValkeyServer(keeper.directory).ensure()
            before = acknowledged
            await kill(current)
            async with asyncio.timeout(15):
                while acknowledged <= before:
                    await asyncio.sleep(0.01)
        storming = False
        await asyncio.wait(writers)
        running.cancel()
    await keeper.ensure()
    assert await whole(stores[0]) >= acknowledged > 25
    for store in stores:
        await store.close()


async def test_a_data_file_cut_anywhere_holds_whole_saves_only(keeper: ValkeyServer) -> None:
    """What a power cut leaves: a prefix of the file, of any length."""
    chance = random.Random(5)
    info = await keeper.ensure()
    store = ValkeyStore(info.url)
    read = await store.put(SHOP)
    for _ in range(60):
        read = await write(store, read)
    lasts = [60]
    for _ in range(12):
        await kill(info)
        file = max((keeper.directory / "appendonlydir").glob("*.incr.aof"))
        size = file.stat().st_size
        os.truncate(file, size - chance.randrange(1, size // 15))
        info = await keeper.ensure()
        lasts.append(await whole(store))
    assert lasts == sorted(lasts, reverse=True)
    assert 0 < lasts[-1] < 60
    assert len(set(lasts)) > 3
    await store.close()


async def test_a_client_killed_anywhere_leaves_whole_saves_only(keeper: ValkeyServer, tmp_path: Path) -> None:
    info = await keeper.ensure()
    store = ValkeyStore(info.url)
    await store.put(SHOP)
    program = tmp_path / "writer.py"
    program.write_text(
        textwrap.dedent("""
            import asyncio, sys
            from phoenix_orch.rollout.store.valkey import ValkeyStore
            from phoenix_orch.testing.store_samples import command, event, release
            async def main():
                store = ValkeyStore(sys.argv[1])
                while True:
                    number = (await store.get("shop")).status.release + 1
                    await store.command("shop", command(f"c{number}"))
                    read = await store.get("shop")
                    status = read.status.model_copy(update={"release": number, "handled": (f"c{number}",)})
                    await store.save(read, status, events=[event(number)], release=release(number))
                    print(number, flush=True)
            asyncio.run(main())
        """)
    )
    chance = random.Random(7)
    for _ in range(5):
        before = await whole(store)
        writer = await asyncio.create_subprocess_exec(
            sys.executable, str(program), info.url, stdout=subprocess.PIPE
        )
        assert writer.stdout is not None
        said = [await writer.stdout.readline()]
        assert said[0], "the writer did not come to write"
        await asyncio.sleep(chance.uniform(0, 0.05))
        writer.kill()
        said += (await writer.stdout.read()).splitlines()
        await writer.wait()
        told = [int(line) for line in said if line.strip()]
        assert told == list(range(before + 1, before + 1 + len(told)))
        assert await whole(store) >= told[-1]
        waiting = (await store.get("shop")).commands
        assert len(waiting) <= 1
    await store.close()


async def _story(store: RolloutStore, *, calls: int) -> None:
    """What a release writes, going on from what is there. Breaks off after so many writes."""
    left = calls

    def step() -> None:
        nonlocal left
        if left == 0:
            raise asyncio.CancelledError
        left -= 1

    step()
    await store.add_revision("shop", revision(1))
    found = {rollout.name for rollout in await store.rollouts()}
    if "shop" not in found:
        step()
        await store.put(SHOP)
    step()
    await store.command("shop", command("c1"))
    read = await store.get("shop")
    if read.status.release == 0:
        step()
        read = await store.save(
            read,
            read.status.model_copy(update={"release": 1, "handled": ("c1",)}),
            events=[event(1)],
            release=release(1),
        )
    step()
    await store.append_observation("shop", observation(1))
    step()
    await store.put_verdict("shop", VERDICT, "{}")
    step()
    await store.put_cause("shop", cause("errors"))
    step()
    await store.append_events("shop", [event(2), event(3)])


async def _everything(store: RolloutStore) -> tuple[object, ...]:
    return (
        await store.rollouts(),
        await store.revisions("shop"),
        await store.events("shop"),
        await store.history("shop"),
        await store.observations("shop"),
        await store.verdict("shop"),
        await store.cause("shop", "bbbb000000"),
    )


@pytest.mark.parametrize("lost", [False, True], ids=["before the call", "after its effect"])
async def test_a_story_cut_off_at_any_call_ends_the_same(keeper: ValkeyServer, lost: bool) -> None:
    expected = MemoryStore()
    await _story(expected, calls=99)
    info = await keeper.ensure()
    for cut in range(8):
        memory = MemoryStore()
        prefix = f"{lost}{cut}:"
        with contextlib.suppress(asyncio.CancelledError):
            await _story(memory, calls=cut)
        first = ValkeyStore(info.url, prefix=prefix)
        with contextlib.suppress(asyncio.CancelledError):
            await _story(first, calls=cut)
        await first.close()
        if lost:  # the next write takes effect, and its answer never comes
            memory.lose_answers(1)
            with contextlib.suppress(Retryable):
                await _story(memory, calls=99)
        second = ValkeyStore(info.url, prefix=prefix)
        for store in (memory, second):
            await _story(store, calls=99)
            assert await _everything(store) == await _everything(expected), cut
        await second.close()


async def test_a_save_in_flight_when_the_server_stops_is_made_once(keeper: ValkeyServer) -> None:
    """The server gets the save, is stopped before it answers, and goes on later."""
    info = await keeper.ensure()
    assert info.process is not None
    store = ValkeyStore(info.url)
    read = await write(store, await store.put(SHOP))  # from here on the server knows the script
    for _ in range(2):
        detached.send(info.process, signal.SIGSTOP)
        try:
            with pytest.raises(Retryable):
                await write(store, read)
        finally:
            detached.send(info.process, signal.SIGCONT)
        async with asyncio.timeout(5):
            while (again := await store.get("shop")).version == read.version:
                await asyncio.sleep(0.01)  # it was received, so it comes
        with pytest.raises(Conflict):
            await write(store, read)
        await whole(store)
        read = again
    await store.close()
