"""Custom health checks: run each at its interval against every instance of the revision, count failures."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence

import httpx

from phoenix_orch.kernel.clock import Clock
from phoenix_orch.rollback_controller.triggers import CheckState
from phoenix_orch.rollout.spec import Check, CommandCheck, HttpCheck

OUTPUT_SHOWN = 200
"""Characters of a failing command's output that go into the reason."""


async def http_failure(
    client: httpx.AsyncClient, check: HttpCheck, url: str, *, limit: float, host: str | None = None
) -> str | None:
    """What is wrong with the answer, or None. Never raises for anything the other side does."""
    try:
        async with asyncio.timeout(limit):
            response = await client.request(check.method, url, headers={"Host": host} if host else None)
    except TimeoutError:
        return f"{url}: no answer within {limit:g} s"
    except httpx.HTTPError as error:
        return f"{url}: {type(error).__name__} {error}".rstrip()
    except (httpx.InvalidURL, UnicodeError) as error:
        return f"{url}: {error}"
    if response.status_code != check.status:
        return f"{url}: status {response.status_code}, expected {check.status}"
    if check.contains is not None and check.contains not in response.text:
        return f"{url}: the answer does not hold {check.contains!r}"
    return None


async def command_failure(check: CommandCheck, env: Mapping[str, str], *, limit: float) -> str | None:
    """What is wrong with the program's end, or None. The program's whole group ends with the check."""
    try:
        process = await asyncio.create_subprocess_exec(
            *check.command,
            env={**os.environ, **env},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        return f"{check.command[0]}: {error.strerror}"
    try:
        async with asyncio.timeout(limit):
            output, _ = await process.communicate()
    except TimeoutError:
        return f"{check.command[0]}: not done within {limit:g} s"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    if process.returncode == 0:
        return None
    said = output.decode(errors="replace").strip()[-OUTPUT_SHOWN:]
    return f"{check.command[0]}: exit status {process.returncode}" + (f": {said}" if said else "")


class CheckRunner:
    """All checks of one revision of one rollout, each in a task of its own, until `stop`."""

    def __init__(
        self,
        checks: Sequence[Check],
        clock: Clock,
        *,
        targets: Callable[[], Sequence[str]],
        route_url: str,
        changed: Callable[[], None],
    ) -> None:
        self.states: dict[str, CheckState] = {check.name: CheckState() for check in checks}
        self._clock = clock
        self._targets = targets
        self._route_url = route_url
        self._changed = changed
        self._tasks = [
            asyncio.create_task(self._repeat(check), name=f"check {check.name}") for check in checks
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _repeat(self, check: Check) -> None:
        async with httpx.AsyncClient(timeout=check.timeout.total_seconds(), trust_env=False) as client:
            while True:
                targets = self._targets()
                if targets:
                    self._count(check, await self._failure(check, client, targets))
                await self._clock.sleep(check.interval)

    def _count(self, check: Check, failure: str | None) -> None:
        if failure is None:
            self.states[check.name] = CheckState()
            return
        self.states[check.name] = CheckState(self.states[check.name].failures + 1, failure)
        self._changed()

    async def _failure(self, check: Check, client: httpx.AsyncClient, targets: Sequence[str]) -> str | None:
        """The first instance's failure; one bad instance is a bad revision."""
        limit = check.timeout.total_seconds()
        for target in targets:
            if check.http is not None:
                url = check.http.url.replace("{canary}", target).replace("{route}", self._route_url)
                failure = await http_failure(client, check.http, url, limit=limit)
            elif check.exec is not None:
                env = {"PHOENIX_CANARY_URL": target, "PHOENIX_ROUTE_URL": self._route_url}
                failure = await command_failure(check.exec, env, limit=limit)
            else:
                failure = None
            if failure is not None:
                return failure
        return None
