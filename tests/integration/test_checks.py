"""Custom health checks against real servers and real programs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import httpx
import psutil
import pytest

from phoenix_orch.kernel.clock import RealClock
from phoenix_orch.kernel.secrets import Secrets
from phoenix_orch.orchestrator.applying import route_call
from phoenix_orch.orchestrator.config import PhoenixFile
from phoenix_orch.rollback_controller.checks import CheckRunner, Route, command_failure, http_failure
from phoenix_orch.rollout.spec import Check, CommandCheck, HttpCheck

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def server(answer: bytes | None) -> AsyncIterator[str]:
    """Answers every connection with `answer`, or never."""
    never = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        if answer is None:
            await never.wait()
        else:
            writer.write(answer)
        writer.close()

    running = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{running.sockets[0].getsockname()[1]}"
    finally:
        never.set()
        running.close()


def response(status: int, body: str = "") -> bytes:
    head = f"HTTP/1.1 {status} x\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    return (head + body).encode()


async def ask(url: str, check: HttpCheck | None = None) -> str | None:
    async with httpx.AsyncClient() as client:
        return await http_failure(client, check or HttpCheck(url=url), url, limit=0.5)


async def test_an_answer_with_the_expected_status_and_text_passes() -> None:
    async with server(response(200, "all well")) as url:
        assert await ask(url, HttpCheck(url=url, contains="well")) is None


async def test_each_way_to_fail_is_told_with_the_address() -> None:
    async with server(response(503)) as url:
        assert await ask(url) == f"{url}: status 503, expected 200"
    async with server(response(200, "sorry")) as url:
        assert "does not hold 'well'" in (await ask(url, HttpCheck(url=url, contains="well")) or "")
    async with server(b"garbage\r\n\r\n") as url:
        assert "RemoteProtocolError" in (await ask(url) or "")
    async with server(None) as url:
        assert await ask(url) == f"{url}: no answer within 0.5 s"
    assert "ConnectError" in (await ask(url) or ""), "the server has gone"
    assert await ask("http://[not-an-address") is not None


async def run(*command: str, limit: float = 5.0) -> str | None:
    return await command_failure(
        CommandCheck(command=command), {"ANSWER": "42"}, limit=limit, secrets=Secrets()
    )


async def test_a_program_passes_by_exit_status_and_gets_the_addresses_by_environment() -> None:
    assert await run(sys.executable, "-c", "import os, sys; sys.exit(os.environ['ANSWER'] != '42')") is None


async def test_a_failing_program_is_quoted() -> None:
    failure = await run(sys.executable, "-c", "print('cart is empty'); raise SystemExit(3)")
    assert failure == f"{sys.executable}: exit status 3: cart is empty"


async def test_a_program_that_is_missing_is_a_failure_and_no_exception() -> None:
    assert "No such file" in (await run("no-such-program-at-all") or "")


async def test_a_program_that_hangs_is_ended_with_its_children() -> None:
    script = (
        "import subprocess, sys, time; subprocess.run([sys.executable, '-c', 'import time; time.sleep(77)'])"
    )
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    assert "not done within 0.7 s" in (await run(sys.executable, "-c", script, limit=0.7) or "")
    for _ in range(100):
        after = {
            c.pid for c in psutil.Process().children(recursive=True) if c.status() != psutil.STATUS_ZOMBIE
        }
        if after <= before:
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"processes stay: {after - before}")


async def test_the_runner_counts_failures_in_a_row_and_starts_over_after_a_success() -> None:
    bad, good = response(500), response(200)
    changed = asyncio.Event()
    async with server(bad) as failing, server(good) as passing:
        targets = [failing]
        check = Check(
            name="cart", http=HttpCheck(url="{canary}/cart"), interval=timedelta(milliseconds=20), threshold=3
        )
        runner = CheckRunner([check], RealClock(), targets=lambda: targets, route=Route, changed=changed.set)
        try:
            async with asyncio.timeout(5):
                while runner.states["cart"].failures < 3:
                    changed.clear()
                    await changed.wait()
                assert "status 500" in runner.states["cart"].detail
                targets[:] = [passing]
                while runner.states["cart"].failures:
                    await asyncio.sleep(0.01)
                targets.clear()
                assert runner.states["cart"].failures == 0, "no instance to ask is no failure"
        finally:
            await runner.stop()


async def test_a_check_through_the_route_is_sent_below_its_prefix_and_to_its_host() -> None:
    heads: list[str] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode().lower())
        writer.write(response(200))
        writer.close()

    listening = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    file = PhoenixFile.model_validate(
        {
            "router": {"listen": port},
            "services": {"shop": {"command": ["app", "{port}"]}},
            "routes": {"shop": {"service": "shop", "pathPrefix": "/shop", "host": "shop.example.com"}},
        }
    )
    check = Check(name="login", http=HttpCheck(url="{route}/login"), interval=timedelta(milliseconds=20))
    runner = CheckRunner(
        [check],
        RealClock(),
        targets=lambda: ["http://127.0.0.1:1"],
        route=lambda: route_call(file, "shop"),
        changed=lambda: None,
    )
    try:
        async with asyncio.timeout(20):
            while len(heads) < 2:
                await asyncio.sleep(0.01)
    finally:
        await runner.stop()
        listening.close()
    assert heads[0].startswith("get /shop/login ")
    assert "host: shop.example.com\r\n" in heads[0]
    assert runner.states["login"].failures == 0


async def test_while_nobody_knows_what_users_call_their_check_is_neither_passed_nor_failed() -> None:
    """In a cluster an Ingress may have no address yet. Another check goes on meanwhile."""
    by_route = Check(name="login", http=HttpCheck(url="{route}/login"), interval=timedelta(milliseconds=10))
    other = Check(name="cart", http=HttpCheck(url="{canary}/cart"), interval=timedelta(milliseconds=10))
    known, changed = [Route()], asyncio.Event()
    runner = CheckRunner(
        [by_route, other],
        RealClock(),
        targets=lambda: ["http://127.0.0.1:1"],
        route=lambda: known[0],
        changed=changed.set,
    )
    try:
        async with asyncio.timeout(30):
            while runner.states["cart"].failures < 3:
                changed.clear()
                await changed.wait()
            assert runner.states["login"].failures == 0
            known[0] = Route("http://127.0.0.1:1")
            while not runner.states["login"].failures:
                changed.clear()
                await changed.wait()
    finally:
        await runner.stop()


async def test_a_program_is_given_the_addresses_by_its_arguments_too() -> None:
    script = "import sys; sys.exit(sys.argv[1:] != ['http://canary/x', 'http://route', '{\"a\": 1}'])"
    words = (sys.executable, "-c", script, "{canary}/x", "{route}", '{"a": 1}')
    asked = asyncio.Event()

    def targets() -> list[str]:
        if seen:
            asked.set()
        seen.append(True)
        return ["http://canary"]

    seen: list[bool] = []
    runner = CheckRunner(
        [Check(name="a", exec=CommandCheck(command=words), interval=timedelta(milliseconds=10))],
        RealClock(),
        targets=targets,
        route=lambda: Route("http://route"),
        changed=lambda: None,
    )
    try:
        async with asyncio.timeout(30):
            await asked.wait()
        assert runner.states["a"].failures == 0, runner.states["a"].detail
    finally:
        await runner.stop()
