"""The embedded router with a real Traefik, real backends and requests that count."""

import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.runtime import detached
from phoenix_orch.testing.loopback import Load, named_server, quiet_port, wait_until
from phoenix_orch.testing.router_contract import CONTRACT, DATA_PLANE, Check
from phoenix_orch.traffic.embedded import EmbeddedRouter
from phoenix_orch.traffic.router import Backend, Group, TrafficState
from phoenix_orch.traffic.spec import RouterSpec, RouteSpec
from phoenix_orch.traffic.traefik_api import RouterInfo, running, start_argument
from phoenix_orch.traffic.traefik_config import parse_service_name
from phoenix_orch.traffic.traefik_process import TraefikProcess

pytestmark = pytest.mark.anyio


def at(revision: str, *ports: int) -> Group:
    backends = tuple(Backend(instance=f"{revision}-{p}", url=f"http://127.0.0.1:{p}") for p in ports)
    return Group(revision=revision, backends=backends)


@dataclass
class World:
    """A router that routes, with one backend of each variant, and 20 % for the canary."""

    router: EmbeddedRouter
    process: TraefikProcess
    port: int
    stable: Group
    canary: Group

    async def shift(self, **changes: object) -> TrafficState:
        state = await self.router.read("web")
        return await self.router.write(state.model_copy(update=changes))

    async def until_weight(self, weight: int) -> float:
        """Seconds until the data plane is seen to send `weight` per cent."""

        async def seen() -> bool:
            return (await self.router.observe("web")).weight == weight

        return await wait_until(f"weight {weight} seen", seen)


@pytest.fixture
async def bare(tmp_path: Path) -> AsyncIterator[tuple[EmbeddedRouter, TraefikProcess, int]]:
    port = quiet_port()
    process = TraefikProcess(tmp_path, RouterSpec(listen=f"127.0.0.1:{port}"))
    try:
        yield EmbeddedRouter(tmp_path), process, port
    finally:
        await process.stop(grace=2.0)


@pytest.fixture
async def world(bare: tuple[EmbeddedRouter, TraefikProcess, int]) -> AsyncIterator[World]:
    router, process, port = bare
    async with AsyncExitStack() as stack:
        stable = at("old", await stack.enter_async_context(named_server("old")))
        canary = at("new", await stack.enter_async_context(named_server("new")))
        world = World(router, process, port, stable, canary)
        await process.ensure()
        await router.write(TrafficState(route="web", stable=stable, canary=None))
        await world.shift(canary=canary, weight=20)
        await world.until_weight(20)
        yield world
        # Its keep-alive connections go before the servers they lead to.
        await process.stop(grace=2.0)


@pytest.mark.parametrize("check", DATA_PLANE, ids=lambda check: check.__name__)
async def test_contract_of_the_data_plane(
    bare: tuple[EmbeddedRouter, TraefikProcess, int], check: Check
) -> None:
    router, process, _ = bare
    await process.ensure()
    await check(router)


async def test_contract_of_the_object_beside_a_live_traefik(
    bare: tuple[EmbeddedRouter, TraefikProcess, int], tmp_path: Path
) -> None:
    _, process, _ = bare
    await process.ensure()
    for check in CONTRACT:
        for route in await EmbeddedRouter(tmp_path).routes():
            await EmbeddedRouter(tmp_path).remove(route)
        await check(EmbeddedRouter(tmp_path))


async def test_the_split_is_exact_and_counted_by_variant(world: World) -> None:
    await world.shift(weight=5)
    await world.until_weight(5)
    load = Load(world.port)
    await load.ask(2000)
    assert load.answers == {"old": 1900, "new": 100}

    place = await world.router.metrics_page("web")
    assert place
    async with httpx.AsyncClient(trust_env=False) as http:
        text = (await http.get(place.url)).text
    requests: dict[str, float] = {}
    edges: set[float] = set()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = parse_service_name(sample.labels.get("service", ""))
            if name and sample.name == "traefik_service_requests_total":
                requests[f"{name.route}/{name.variant}/{name.revision}"] = sample.value
            if name and sample.name == "traefik_service_request_duration_seconds_bucket":
                edges.add(float(sample.labels["le"]))
    assert requests == {"web/stable/old": 1900, "web/canary/new": 100}
    assert {0.1, 0.2, float("inf")} <= edges


async def test_a_change_and_an_abort_are_in_force_within_a_second(world: World) -> None:
    await world.shift(weight=60)
    assert await world.until_weight(60) < 1.0
    begun = time.monotonic()
    await world.router.abort("web", "new")
    await world.until_weight(0)
    assert time.monotonic() - begun < 1.0
    load = Load(world.port)
    await load.ask(300)
    assert load.answers == {"old": 300}


async def test_no_request_fails_over_fifty_changes(world: World) -> None:
    load = Load(world.port)
    async with load.running():
        for number in range(50):
            weight = (5, 100, 20, 0, 60)[number % 5]
            await world.shift(weight=weight)
            await world.until_weight(weight)
    assert not load.failures
    assert min(load.answers["old"], load.answers["new"]) > 100


async def test_no_request_fails_in_a_promotion(world: World) -> None:
    load = Load(world.port)
    async with named_server("promoted") as port, load.running():
        await world.shift(weight=100)
        await world.until_weight(100)
        await world.shift(stable=at("new", port), previous=world.stable)
        await world.shift(weight=0)
        await world.until_weight(0)
        await world.shift(canary=None)

        async def promoted() -> bool:
            return (await world.router.observe("web")).backends == frozenset((f"http://127.0.0.1:{port}",))

        await wait_until("only the promoted backend is left", promoted)
    assert not load.failures
    assert load.answers["promoted"] > 0


async def test_routes_are_told_apart(world: World) -> None:
    async with named_server("api") as api, named_server("host") as host:
        await world.router.declare("api", RouteSpec(service="api", path_prefix="/api"))
        await world.router.declare("host", RouteSpec(service="host", host="shop.example.com"))
        await world.router.write(TrafficState(route="api", stable=at("a", api)))
        await world.router.write(TrafficState(route="host", stable=at("h", host)))

        async def both() -> bool:
            seen = await world.router.observe_all(("api", "host", "web"))
            return all(each.weight is not None for each in seen.values())

        await wait_until("all routes in force", both)
        await world.router.abort("web", "new")
        await world.until_weight(0)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{world.port}", trust_env=False) as http:
            for path, wanted in (("/api", "api"), ("/api/x", "api"), ("/apix", "old"), ("/", "old")):
                assert (await http.get(path)).text == wanted
            assert (await http.get("/api", headers={"Host": "shop.example.com"})).text == "host"
        await world.process.stop(grace=2.0)


async def test_every_method_and_size_is_tried_elsewhere_when_refused(world: World) -> None:
    dead = quiet_port()
    ports = [int(world.stable.backends[0].url.rpartition(":")[2]), dead]
    await world.shift(stable=at("old", *ports), weight=0)

    async def both() -> bool:
        return len((await world.router.observe("web")).backends or ()) == 3

    await wait_until("the dead backend is in", both)
    url = f"http://127.0.0.1:{world.port}/"

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * 100_000

    async with httpx.AsyncClient(trust_env=False) as http:
        for _ in range(4):
            for method in ("GET", "POST", "DELETE"):
                assert (await http.request(method, url)).text == "old"
            assert (await http.post(url, content=b"x" * 5_000_000)).text == "old"
        place = await world.router.metrics_page("web")
        assert place
        metrics = (await http.get(place.url)).text
    assert 'code="502",method="POST"' in metrics, "a failed attempt is evidence, though nobody saw it"


async def test_ensure_adopts_what_runs_and_replaces_what_does_not_fit(
    bare: tuple[EmbeddedRouter, TraefikProcess, int], tmp_path: Path
) -> None:
    _, process, port = bare
    first = await process.ensure()
    assert await process.ensure() == first
    same = TraefikProcess(tmp_path, RouterSpec(listen=f"127.0.0.1:{port}"), edges=(0.1, 0.2))
    assert await same.ensure() == first, "its histogram has these edges already"
    same.want_edges((0.123,))
    second = await same.ensure()
    assert second.pid != first.pid
    assert 0.123 in second.edges
    assert not psutil.pid_exists(first.pid)
    assert await process.ensure() == second, "more edges than wanted are no reason to start again"
    moved = TraefikProcess(tmp_path, RouterSpec(listen=f"127.0.0.1:{quiet_port()}"))
    third = await moved.ensure()
    assert third.pid != second.pid
    await moved.stop()
    assert not psutil.pid_exists(third.pid)
    await moved.stop()


async def test_two_at_once_start_one(
    bare: tuple[EmbeddedRouter, TraefikProcess, int], tmp_path: Path
) -> None:
    _, process, port = bare
    other = TraefikProcess(tmp_path, RouterSpec(listen=f"127.0.0.1:{port}"))
    one, two = await asyncio.gather(process.ensure(), other.ensure())
    assert one == two


async def test_an_address_in_use_names_the_program(
    bare: tuple[EmbeddedRouter, TraefikProcess, int], tmp_path: Path
) -> None:
    _, process, port = bare
    async with named_server("theirs", port):
        with pytest.raises(Invalid, match=f"cannot listen on 127.0.0.1:{port}.*pid") as raised:
            await process.ensure()
    assert "router.listen" in raised.value.remedy
    assert not (tmp_path / "router.json").exists()


@pytest.mark.parametrize("text", [None, "", '{"process": {"pid":'])
async def test_a_router_that_no_file_names_is_known_by_what_it_says_itself(
    bare: tuple[EmbeddedRouter, TraefikProcess, int], tmp_path: Path, text: str | None
) -> None:
    router, process, _ = bare
    lost = await process.ensure()
    named = tmp_path / "router.json"
    named.unlink() if text is None else named.write_text(text)
    assert running(tmp_path) == lost
    assert await router.admin_url() == lost.admin, "an abort by hand sees what it does"
    assert await process.ensure() == lost
    assert RouterInfo.model_validate_json(named.read_bytes()) == lost
    named.unlink()
    await process.stop(grace=2.0)
    assert not psutil.pid_exists(lost.pid)


async def test_a_router_that_says_nothing_of_itself_is_ended_at_a_start_and_at_a_stop(
    bare: tuple[EmbeddedRouter, TraefikProcess, int], tmp_path: Path
) -> None:
    _, process, _ = bare

    def nameless() -> detached.Process:
        return detached.spawn(
            (shutil.which("traefik", path=str(Path(sys.executable).parent)) or "", start_argument(tmp_path)),
            output=tmp_path / "router.out",
            environment={},
        )

    before = await process.ensure()
    await process.stop(grace=2.0)
    (tmp_path / "router.json").unlink(missing_ok=True)
    lost = nameless()
    info = await process.ensure()
    assert not lost.alive
    assert info.process != before.process
    lost = nameless()
    assert await process.ensure() == info, "the one that serves is left alone"
    assert not lost.alive
    lost = nameless()
    await process.stop(grace=2.0)
    assert not lost.alive
    assert not info.process.alive


async def test_a_router_whose_directory_was_removed_is_ended_all_the_same(
    bare: tuple[EmbeddedRouter, TraefikProcess, int], tmp_path: Path
) -> None:
    _, process, _ = bare
    info = await process.ensure()
    shutil.rmtree(tmp_path)
    await process.stop(grace=2.0)
    assert not info.process.alive


TAKES_ALL = """
http:
  routers: {theirs: {rule: "PathPrefix(`/`)", priority: 99999, service: theirs}}
  services: {theirs: {loadBalancer: {servers: []}}}
"""


@pytest.mark.parametrize("theirs", ["http: [broken\n", TAKES_ALL], ids=["broken", "valid"])
async def test_a_file_of_somebody_else_is_in_nobodys_way(world: World, tmp_path: Path, theirs: str) -> None:
    path = tmp_path / "dynamic" / "theirs.yaml"
    path.write_text(theirs)
    await world.router.abort("web", "new")
    assert await world.until_weight(0) < 1.0
    await world.process.stop(grace=2.0)
    await world.process.ensure()
    load = Load(world.port)
    await load.ask(50)
    assert load.answers == {"old": 50}
    assert path.read_text() == theirs


@pytest.mark.parametrize("kinds", [2, 4, 5, 10, 20])
async def test_no_kind_of_request_is_kept_from_the_canary(world: World, kinds: int) -> None:
    """One user who asks for so many kinds of things in turn."""
    await world.shift(weight=5)
    await world.until_weight(5)
    load = Load(world.port)
    met = dict.fromkeys(range(kinds), 0)
    for number in range(2000):
        before = load.answers["new"]
        await load.ask(1)
        met[number % kinds] += load.answers["new"] - before
    assert load.answers == {"old": 1900, "new": 100}
    fair = 100 / kinds
    assert min(met.values()) >= 0.2 * fair
    assert max(met.values()) <= 2 * fair


async def test_nothing_ready_is_503_nothing_declared_is_404_and_all_dead_is_502(
    bare: tuple[EmbeddedRouter, TraefikProcess, int],
) -> None:
    router, process, port = bare
    await process.ensure()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:

        async def status() -> int:
            return (await http.get("/api")).status_code

        assert await status() == 404
        await router.declare("api", RouteSpec(service="api", path_prefix="/api"))

        async def waits() -> bool:
            return await status() == 503

        await wait_until("503", waits)
        assert (await http.get("/api")).headers["retry-after"] == "1"
        assert (await http.get("/other")).status_code == 404
        await router.write(TrafficState(route="api", stable=at("dead", quiet_port(), quiet_port())))

        async def dead() -> bool:
            return await status() == 502

        await wait_until("502", dead)
        assert "retry-after" not in (await http.get("/api")).headers
        await router.remove("api")

        async def gone() -> bool:
            return await status() == 404

        await wait_until("the last route can be removed too", gone)


async def test_a_cold_start_is_503_and_is_counted_for_nobody(
    bare: tuple[EmbeddedRouter, TraefikProcess, int],
) -> None:
    """The table is older than the stop of everything: nobody listens any more where it sends requests."""
    router, process, port = bare
    dead, other = at("old", quiet_port(), quiet_port()), at("new", quiet_port())
    await router.write(TrafficState(route="web", stable=dead, canary=other, weight=20))
    assert len(await router.drop_refusing()) == 3
    await process.ensure()
    place = await router.metrics_page("web")
    assert place
    assert place.pid == running(router.directory).pid  # type: ignore[union-attr]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:

        async def counted() -> list[str]:
            page = (await http.get(place.url)).text
            return [line for line in page.splitlines() if line.startswith("traefik_service_requests_total")]

        answers = [await http.get("/") for _ in range(50)]
        assert {(answer.status_code, answer.headers["retry-after"]) for answer in answers} == {(503, "1")}
        assert await counted() == []
        seen = await router.observe("web")
        assert (seen.weight, seen.stable_revision, seen.backends) == (0, "old", frozenset())
        async with named_server("old") as again:
            state = await router.read("web")
            await router.write(state.model_copy(update={"stable": at("old", again)}))

            async def serves() -> bool:
                return (await http.get("/")).status_code == 200

            await wait_until("200", serves)
            assert "retry-after" not in (await http.get("/")).headers
            (line,) = await counted()
            assert 'code="200"' in line
            assert "web.stable.old" in line


async def test_a_table_that_somebody_replaced_does_not_keep_the_router_from_starting(
    bare: tuple[EmbeddedRouter, TraefikProcess, int], tmp_path: Path
) -> None:
    router, process, _ = bare
    await router.write(TrafficState(route="web", stable=at("old", 20001)))
    table = tmp_path / "dynamic" / "routes.yaml"
    good = table.read_text()
    table.write_text("http: [broken\n")
    await process.ensure()
    assert (await router.observe("web")).weight == 0
    assert table.read_text() == good
    assert await router.condition() == "ok"


async def test_only_loopback_reaches_the_admin_side(world: World) -> None:
    admin = await world.router.admin_url()
    assert admin
    assert admin.startswith("http://127.0.0.1:")
    async with httpx.AsyncClient(trust_env=False) as http:
        for path in ("/metrics", "/api/rawdata", "/ping"):
            answer = await http.get(f"http://127.0.0.1:{world.port}{path}")
            assert answer.text in ("old", "new"), "users reach the service at these paths, not Traefik"


async def test_phoenix_killed_leaves_the_router_to_the_next_one(
    bare: tuple[EmbeddedRouter, TraefikProcess, int], tmp_path: Path
) -> None:
    _, process, port = bare
    program = (
        "import asyncio, pathlib, sys, signal, os\n"
        "from phoenix_orch.traffic.spec import RouterSpec\n"
        "from phoenix_orch.traffic.traefik_process import TraefikProcess\n"
        "directory, port = pathlib.Path(sys.argv[1]), int(sys.argv[2])\n"
        "asyncio.run(TraefikProcess(directory, RouterSpec(listen=port)).ensure())\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path), str(port)]
    ended = await asyncio.to_thread(subprocess.run, command, check=False, timeout=30)
    assert ended.returncode == -9
    router = EmbeddedRouter(tmp_path)
    before = await router.admin_url()
    assert before, "the router outlived its Phoenix"
    adopted = await process.ensure()
    assert adopted.admin == before
