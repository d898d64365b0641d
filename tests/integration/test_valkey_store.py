"""The store on a real Valkey: the contract, every way to connect, and clear words when it cannot."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from phoenix_orch.health_validator.observation import Verdict, VerdictKind
from phoenix_orch.kernel.errors import Invalid, NotFound, PhoenixError, Retryable, Terminal
from phoenix_orch.rollout.status import Rollout, Status
from phoenix_orch.rollout.store import valkey_watch
from phoenix_orch.rollout.store.memory import MemoryStore
from phoenix_orch.rollout.store.valkey import ValkeyStore
from phoenix_orch.runtime.valkey_client import CALL_TIMEOUT
from phoenix_orch.runtime.valkey_program import find_binary
from phoenix_orch.runtime.valkey_server import ServerInfo, ValkeyServer
from phoenix_orch.testing.store_contract import CONTRACT, Check
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

SECRET = "p@ss/w0rd:x"
SECRET_IN_URL = "p%40ss%2Fw0rd%3Ax"
_numbers = itertools.count()


@pytest.fixture
async def store(server: ServerInfo) -> AsyncIterator[ValkeyStore]:
    """A store of its own: each has another prefix."""
    store = ValkeyStore(server.url, prefix=f"test{next(_numbers)}:")
    yield store
    await store.close()


@pytest.fixture
async def raw(server: ServerInfo) -> AsyncIterator[Redis]:
    async with Redis.from_url(server.url, decode_responses=True) as client:
        yield client


@contextlib.contextmanager
def tcp_server(directory: Path, *options: str) -> Iterator[int]:
    """A server of somebody else: on TCP, with a password."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    words = [str(find_binary(None)), "--bind", "127.0.0.1", "--port", str(port), "--save", ""]
    process = subprocess.Popen(
        [*words, "--dir", str(directory), "--requirepass", SECRET, *options], stdout=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.01)
        yield port
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
async def test_contract(check: Check, store: ValkeyStore) -> None:
    await check(store)


@pytest.mark.parametrize("check", CONTRACT[:10], ids=lambda check: check.__name__)
async def test_contract_with_a_client_that_decodes(check: Check, raw: Redis) -> None:
    await check(ValkeyStore(raw, prefix=f"given{next(_numbers)}:"))


async def test_nothing_stays_of_a_removed_rollout(store: ValkeyStore, raw: Redis) -> None:
    before = set(await raw.keys("*"))
    read = await store.put(SHOP)
    await store.add_revision("shop", revision(1))
    await store.command("shop", command("c1"))
    read = await store.get("shop")
    await store.save(read, Status(), events=[event(1)], release=release(1))
    await store.put_verdict("shop", VERDICT, "{}")
    await store.put_cause("shop", cause("why"))
    await store.append_observation("shop", observation(1))
    assert len(set(await raw.keys("*")) - before) == 10
    await store.remove("shop")
    assert {key.partition(":")[2] for key in set(await raw.keys("*")) - before} == {"removed"}


async def test_observations_are_capped(store: ValkeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phoenix_orch.rollout.store.valkey.OBSERVATIONS_KEPT", 200)
    monkeypatch.setattr("phoenix_orch.rollout.store.valkey_streams.PAGE", 30)
    await store.put(SHOP)
    for number in range(600):
        await store.append_observation("shop", observation(number))
    kept = await store.observations("shop", limit=1000)
    assert 200 <= len(kept) <= 320
    assert kept == [observation(number) for number in range(600 - len(kept), 600)]


async def test_every_kind_of_address(tmp_path: Path, server: ServerInfo) -> None:
    with tcp_server(tmp_path) as port:
        for given in (
            f"redis://:{SECRET_IN_URL}@127.0.0.1:{port}/3",
            f"redis://default:{SECRET_IN_URL}@localhost:{port}",
            server.url,
            server.socket,
        ):
            store = ValkeyStore(given, prefix=f"address{next(_numbers)}:")
            await store.ping()
            assert (await store.put(SHOP)).version == 1
            await store.close()


@pytest.mark.parametrize(
    "url",
    [
        f"redis://user:{SECRET}@127.0.0.1:1/0",
        f"redis://:{SECRET}@host:port",
        f"redis://:w0rd@ss/{SECRET}@127.0.0.1",
        f"redis://:p#{SECRET}@127.0.0.1",
        f"redis://h?p={SECRET}@127.0.0.1",
        "redis://127.0.0.1/first",
        f"http://:{SECRET_IN_URL}@127.0.0.1",
        f"redis://:{SECRET_IN_URL}@127.0.0.1?no_such_option={SECRET_IN_URL}",
        "",
        "localhost:6379",
    ],
)
def test_r11_a_wrong_address_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(Invalid) as refused:
        ValkeyStore(url)
    _tells_no_secret(refused.value)
    assert refused.value.remedy


async def test_r11_no_error_and_no_log_tells_the_password(tmp_path: Path) -> None:
    problems: list[PhoenixError] = []
    with capture_logs() as logs, tcp_server(tmp_path) as port:
        for login in (f"wrong{SECRET_IN_URL}", f"nobody:{SECRET_IN_URL}"):
            store = ValkeyStore(f"redis://:{login}@127.0.0.1:{port}")
            problems.append(await _problem(store))
            assert "password" in problems[-1].remedy
            async for _ in store.watch(timeout=timedelta(milliseconds=10)):
                break
            await store.close()
        nobody = ValkeyStore(f"redis://127.0.0.1:{port}")
        problems.append(await _problem(nobody))
        await nobody.close()
    gone = ValkeyStore(f"redis://:{SECRET_IN_URL}@127.0.0.1:{port}")
    problems.append(await _problem(gone))
    assert f"127.0.0.1:{port}" in problems[-1].message
    await gone.close()
    assert logs
    _tells_no_secret(*problems, logs)
    assert {type(problem) for problem in problems} == {Retryable}


async def test_r11_a_server_that_repeats_what_it_was_sent_is_not_repeated() -> None:
    async def parrot(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard = (await reader.read(1000)).decode().replace("\r\n", " ")
        writer.write(f"-ERR unknown command, with args beginning with: {heard}\r\n".encode())
        await writer.drain()
        writer.close()

    async def gossip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard = (await reader.read(1000)).decode().replace("\r\n", " ")
        writer.write(f"-ERR never heard of {heard}\r\n".encode())
        await writer.drain()
        writer.close()

    for talker in (parrot, gossip):
        server = await asyncio.start_server(talker, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        store = ValkeyStore(f"redis://:{SECRET_IN_URL}@127.0.0.1:{port}")
        _tells_no_secret(await _problem(store))
        await store.close()
        server.close()
        await server.wait_closed()


async def test_a_full_memory_is_told(tmp_path: Path) -> None:
    with tcp_server(tmp_path, "--maxmemory", "2mb") as port:
        store = ValkeyStore(f"redis://:{SECRET_IN_URL}@127.0.0.1:{port}")
        read = await store.put(SHOP)
        problem: Retryable | None = None
        while problem is None:
            number = read.status.release + 1
            try:
                told = event(number, reason="Said" * 1000)
                read = await store.save(read, Status(release=number), events=[told])
            except Retryable as error:
                problem = error
        assert "no memory" in problem.message
        assert "maxmemory" in problem.remedy
        assert await store.get("shop") == read
        assert len(await store.events("shop", limit=20_000)) == read.status.release
        await store.close()


async def test_a_read_only_replica_is_told(tmp_path: Path) -> None:
    with tcp_server(tmp_path, "--replicaof", "127.0.0.1", "1") as port:
        store = ValkeyStore(f"redis://:{SECRET_IN_URL}@127.0.0.1:{port}")
        with pytest.raises(Retryable, match="replica"):
            await store.put(SHOP)
        await store.close()


async def test_a_server_that_cannot_write_is_told(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    directory.mkdir()
    with tcp_server(directory) as port:
        client = Redis(port=port, password=SECRET)
        await client.config_set("save", "1 1")
        (directory / "dump.rdb").mkdir()  # the snapshot cannot be put in its place, whoever runs this
        await client.set("x", 1)
        with contextlib.suppress(Exception):
            await client.bgsave()
        async with asyncio.timeout(20):
            while (await client.info("persistence"))["rdb_last_bgsave_status"] == "ok":
                await asyncio.sleep(0.02)
        await client.aclose()
        store = ValkeyStore(f"redis://:{SECRET_IN_URL}@127.0.0.1:{port}")
        with pytest.raises(Retryable, match="cannot write to its disk") as raised:
            await store.put(SHOP)
        assert "free space" in raised.value.remedy
        assert await store.rollouts() == []
        await store.close()


async def test_stored_data_that_cannot_be_read_names_its_key(store: ValkeyStore, raw: Redis) -> None:
    prefix = store._prefix
    read = await store.put(SHOP)
    await store.save(read, Status(), events=[event(1)], release=release(1))
    await store.append_observation("shop", observation(1))
    await store.put_verdict("shop", VERDICT, "{}")
    await store.put_cause("shop", cause("why"))
    await store.add_revision("shop", revision(1))
    await raw.xadd(f"{prefix}events:shop", {"json": "{"})
    await raw.xadd(f"{prefix}observations:shop", {"other": ""})
    await raw.hset(f"{prefix}history:shop", "7", "[]")
    await raw.hset(f"{prefix}verdict:shop", "verdict", '{"kind": "maybe"}')
    await raw.hset(f"{prefix}causes:shop", "bbbb000000", "no cause at all")
    await raw.hset(f"{prefix}templates:shop", revision(1).revision, "\x00")
    for key, call in (
        ("events:shop", store.events("shop")),
        ("observations:shop", store.observations("shop")),
        ("history:shop", store.history("shop")),
        ("verdict:shop", store.verdict("shop")),
        ("causes:shop", store.cause("shop", "bbbb000000")),
        ("templates:shop", store.revisions("shop")),
    ):
        with pytest.raises(Terminal) as raised:
            await call
        assert prefix + key in raised.value.message
        assert raised.value.remedy
    assert (await store.get("shop")).name == "shop"
    await raw.hset(f"{prefix}record:shop", "status", "{}x")
    for broken in (store.get("shop"), store.rollouts()):
        with pytest.raises(Terminal, match=f"{prefix}record:shop"):
            await broken


async def test_a_save_that_the_server_refuses_halfway_leaves_the_status_alone(
    store: ValkeyStore, raw: Redis
) -> None:
    read = await store.put(SHOP)
    await store.command("shop", command("c1"))
    read = await store.get("shop")
    await raw.set(f"{store._prefix}history:shop", "somebody else's")
    with pytest.raises(Terminal, match="did not write"):
        await store.save(read, Status(release=1, handled=("c1",)), release=release(1))
    assert await store.get("shop") == read
    await raw.delete(f"{store._prefix}history:shop")
    assert (await store.save(read, Status(release=1, handled=("c1",)))).commands == ()


async def test_no_name_reaches_the_keys_of_another_rollout(store: ValkeyStore) -> None:
    odd = ("shop:events", "", "shop\r\nFLUSHALL", "*", "größe", "x" * 300)
    await store.put(SHOP)
    for name in odd:
        await store.put(SHOP.model_copy(update={"name": name}))
        await store.append_events(name, [event(len(name))])
    assert await store.events("shop") == []
    assert {rollout.name for rollout in await store.rollouts()} == {"shop", *odd}
    for name in odd:
        assert await store.events(name) == [event(len(name))]
        await store.remove(name)
    assert [rollout.name for rollout in await store.rollouts()] == ["shop"]


async def test_what_is_read_again_as_it_was_is_decoded_once_and_what_changed_is_not_missed(
    store: ValkeyStore, raw: Redis
) -> None:
    other = ValkeyStore(raw, prefix=store._prefix)
    await store.put(SHOP)
    known = await store.get("shop")
    assert await store.get("shop") is known
    assert (await store.rollouts())[0] is known
    await other.save(known, Status(message="told by another process"))
    assert (await store.get("shop")).status.message == "told by another process"
    await other.command("shop", command("c"))
    assert (await store.rollouts())[0].commands == (command("c"),)
    await other.remove("shop")
    assert await store.rollouts() == []
    await other.put(SHOP)
    assert (await store.get("shop")).status == Status()


async def test_many_calls_at_once_share_few_connections(store: ValkeyStore, raw: Redis) -> None:
    await store.put(SHOP)
    before = (await raw.info("clients"))["connected_clients"]
    await asyncio.gather(*(store.append_events("shop", [event(number)]) for number in range(500)))
    assert len(await store.events("shop", limit=1000)) == 500
    assert (await raw.info("clients"))["connected_clients"] <= before + 16


async def test_a_cancelled_call_spoils_nothing(store: ValkeyStore) -> None:
    await store.put(SHOP)
    for number in range(50):
        call = asyncio.create_task(store.get("shop"))
        for _ in range(number % 7):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert (await store.get("shop")).name == "shop"
        assert await store.verdict("shop") is None


async def test_no_cancellation_gets_lost(store: ValkeyStore) -> None:
    """Before Python 3.12 asyncio.wait_for loses one that comes together with the result."""
    await store.put(SHOP)

    async def loop() -> None:
        while True:
            await store.get("shop")

    for turns in range(300):
        looping = asyncio.create_task(loop())
        for _ in range(turns % 60):
            await asyncio.sleep(0)
        looping.cancel()
        done, _ = await asyncio.wait({looping}, timeout=2)
        assert done, f"cancelled after {turns % 60} turns, it goes on"
        assert looping.cancelled()


async def test_a_stopped_server_is_retryable_in_bounded_time(tmp_path: Path) -> None:
    keeper = ValkeyServer(tmp_path / "valkey")
    info = await keeper.ensure()
    assert info.process is not None
    store = ValkeyStore(info.url)
    read = await store.put(SHOP)
    try:
        os.kill(info.process.pid, signal.SIGSTOP)
        begun = time.monotonic()
        calls = (
            store.rollouts(),
            store.get("shop"),
            store.put(read),
            store.save(read, Status(release=1)),
            store.command("shop", command("c1")),
            store.events("shop"),
            store.append_events("shop", [event(1)]),
            store.cause("shop", "x"),
            store.verdict("shop"),
            store.clear_cause("shop", "x"),
            store.revisions("shop"),
            *(store.history("shop") for _ in range(30)),  # more than there are connections
        )
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {Retryable}
        assert time.monotonic() - begun < CALL_TIMEOUT + 1
        heard = 0
        async with asyncio.timeout(CALL_TIMEOUT + 2):
            async for name in store.watch(timeout=timedelta(milliseconds=50)):
                assert name == ""
                heard += 1
                if heard == 3:
                    break
    finally:
        os.kill(info.process.pid, signal.SIGCONT)
    after = await store.get("shop")
    assert after.version >= read.version
    await store.save(after, Status(release=2))
    await store.close()
    await keeper.stop()


async def test_it_reconnects_by_itself_and_so_does_a_watch(tmp_path: Path) -> None:
    keeper = ValkeyServer(tmp_path / "valkey")
    info = await keeper.ensure()
    store = ValkeyStore(info.url)
    read = await store.put(SHOP)
    names: list[str] = []

    async def listen() -> None:
        async for name in store.watch(timeout=timedelta(milliseconds=100)):
            names.append(name)  # noqa: PERF401 - it never ends

    with capture_logs() as logs:
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            listener = group.create_task(listen())
            for number in range(1, 4):
                await _until(lambda: names)
                await keeper.stop()
                with pytest.raises(Retryable, match="does not answer"):
                    await store.get("shop")
                names.clear()
                await _until(lambda: len(names) > 3)
                assert set(names) == {""}
                await keeper.ensure()
                # The very first call works: dead connections are noticed, scripts are sent again.
                read = await store.save(read, Status(release=number))
                while "shop" not in names:
                    await store.put_verdict("shop", VERDICT, "{}")
                    await asyncio.sleep(0.02)
                names.clear()
            listener.cancel()
    assert [log["event"] for log in logs if log["event"].startswith("store ")] == [
        "store is away",
        "store answers again",
    ] * 3
    await store.close()
    await keeper.stop()


async def test_silence_is_no_fault_however_rarely_a_watch_looks_up_and_a_server_that_hangs_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(valkey_watch, "_SILENCE", 0.1)
    keeper = ValkeyServer(tmp_path / "valkey")
    info = await keeper.ensure()
    store = ValkeyStore(info.url)
    names: list[str] = []

    async def listen() -> None:
        async for name in store.watch(timeout=timedelta(milliseconds=500)):
            names.append(name)  # noqa: PERF401 - it never ends

    with capture_logs() as logs:
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            listener = group.create_task(listen())
            await _until(lambda: len(names) > 4)
            assert not logs
            os.kill(info.process.pid, signal.SIGSTOP)
            try:
                await _until(lambda: [log["event"] for log in logs] == ["store is away"])
            finally:
                os.kill(info.process.pid, signal.SIGCONT)
            await _until(lambda: logs[-1]["event"] == "store answers again")
            listener.cancel()
    await store.close()
    await keeper.stop()


async def _until(what: object) -> None:
    assert callable(what)
    while not what():
        await asyncio.sleep(0.01)


async def _problem(store: ValkeyStore) -> PhoenixError:
    with pytest.raises(PhoenixError) as raised:
        await store.get("shop")
    return raised.value


def _tells_no_secret(*told: object) -> None:
    for thing in told:
        seen: BaseException | None = thing if isinstance(thing, BaseException) else None
        text = f"{thing!s} {thing!r} {getattr(thing, 'remedy', '')}"
        while seen is not None:  # a log with a traceback shows these too
            text += f"{seen!s} {seen!r}"
            seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
        for secret in (SECRET, SECRET_IN_URL, "w0rd"):
            assert secret not in text


@pytest.mark.parametrize("kind", ["valkey", "memory"])
async def test_a_part_is_read_without_the_rest(server: ServerInfo, kind: str) -> None:
    """Pages by name, and marks that change with each verdict, also with one of the same moment."""
    store = ValkeyStore(server.url, prefix="paged:") if kind == "valkey" else MemoryStore()
    for name in ("b", "a-1", "a", "c"):
        await store.put(Rollout(name=name, service=name, route=name, target="1"))
    assert [one.name for one, _ in await store.page(limit=2)] == ["a", "a-1"]
    assert [one.name for one, _ in await store.page(after="a-1")] == ["b", "c"]
    assert await store.page(after="c") == []
    await store.remove("b")
    assert [one.name for one, _ in await store.page()] == ["a", "a-1", "c"]
    marks = [await store.marked("a")]
    at = datetime(2026, 1, 1, tzinfo=UTC)
    for reason in ("first", "second"):
        verdict = Verdict(kind=VerdictKind.CONTINUE, revision="1", step=0, at=at, reason=reason)
        await store.put_verdict("a", verdict, "{}")
        marks.append(await store.marked("a"))
    assert len({mark for _, mark in marks}) == 3
    assert {rollout.version for rollout, _ in marks} == {1}
    with pytest.raises(NotFound):
        await store.marked("b")
    if kind == "valkey":
        await store.close()
