"""Custom health checks: run each at its interval against every instance of the revision, count failures."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import httpx

from phoenix_orch.kernel import placeholders
from phoenix_orch.kernel.clock import Clock
from phoenix_orch.kernel.masking import masked_url, masked_words, told
from phoenix_orch.kernel.secrets import Secrets, secrets_of, secrets_of_words
from phoenix_orch.observability import tracing
from phoenix_orch.rollback_controller.triggers import CheckState
from phoenix_orch.rollout.spec import Check, CommandCheck, HttpCheck
from phoenix_orch.rollout.status import Rollout
from phoenix_orch.runtime import children
from phoenix_orch.runtime.detached import harmless_environment
from phoenix_orch.workload.spec import Template

OUTPUT_SHOWN = 200
"""Characters of a failing command's output that go into the reason."""
OUTPUT_KEPT = 16 * 1024
"""Bytes of the end of a command's output that are kept while it runs."""
OUTPUT_PAUSE = 0.5
"""Real seconds to wait for the rest of the output of a command that has ended."""
ANSWER_READ = 1024 * 1024
"""Bytes of an answer that are searched for `contains`; more is not read."""


@dataclass(frozen=True, slots=True)
class Route:
    """How a route is called from this machine."""

    url: str = ""
    """Base address with the route's path prefix, without a slash at the end; empty: not known."""
    host: str | None = None
    """Host header, where the route takes one host only."""


async def http_failure(
    client: httpx.AsyncClient, check: HttpCheck, url: str, *, limit: float, host: str | None = None
) -> str | None:
    """What is wrong with the answer, or None. Never raises for anything the other side does."""
    headers, shown = ({"Host": host} if host else {}) | tracing.headers(), masked_url(url)
    try:
        async with asyncio.timeout(limit), client.stream(check.method, url, headers=headers) as response:
            text = await _beginning(response) if check.contains is not None else ""
    except TimeoutError:
        return f"{shown}: no answer within {limit:g} s"
    except httpx.HTTPError as error:
        said = Secrets(secrets_of({}, urls=[url])).harmless(str(error))
        return f"{shown}: {type(error).__name__} {said}".rstrip()
    except (httpx.InvalidURL, ValueError, ExceptionGroup) as error:  # its text repeats a part of the address
        return f"{shown}: the address leads nowhere ({type(error).__name__})"
    if response.status_code != check.status:
        return f"{shown}: status {response.status_code}, expected {check.status}"
    if check.contains is not None and check.contains not in text:
        return f"{shown}: the answer does not hold {check.contains!r}"
    return None


async def _beginning(response: httpx.Response) -> str:
    text = ""
    async for piece in response.aiter_text():
        text += piece
        if len(text) > ANSWER_READ:
            break
    return text


async def command_failure(
    check: CommandCheck, env: Mapping[str, str], *, limit: float, secrets: Secrets | None = None
) -> str | None:
    """What is wrong with the program's end, or None. The program's whole group ends with the check.

    It sees `env` and what is harmless of Phoenix's own environment. Its output is told without `secrets`;
    None: they are not known, and nothing is told of it.
    """
    program = told(masked_words(check.command)[0])
    try:
        process = await asyncio.create_subprocess_exec(
            *check.command,
            env={**harmless_environment(), **env},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        return f"{program}: {error.strerror}"
    except ValueError as error:  # a zero byte
        return f"{program}: {error}"
    children.note(process.pid)
    output = bytearray()
    reading = asyncio.create_task(_keep_end(process.stdout, output))
    try:
        async with asyncio.timeout(limit):
            status = await process.wait()
    except TimeoutError:
        return f"{program}: not done within {limit:g} s"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        await asyncio.wait({reading}, timeout=OUTPUT_PAUSE)  # what left the group may hold the pipe open
        reading.cancel()
    if status == 0:
        return None
    return f"{program}: exit status {status}{_told(bytes(output), secrets)}"


def _told(output: bytes, secrets: Secrets | None) -> str:
    """The end of what a program said, as it may stand in a reason."""
    if not output.strip():
        return ""
    if secrets is None:
        return "; its output is not shown while the store is away"
    text = output.decode(errors="replace")
    if len(output) >= OUTPUT_KEPT:  # it begins somewhere, in the middle of a secret perhaps
        text = text[OUTPUT_KEPT // 4 :].partition(" ")[2]
    shown = secrets.harmless(text).strip()
    if len(shown) > OUTPUT_SHOWN:  # nor does it begin in the middle of a mask
        shown = shown[-OUTPUT_SHOWN:].partition(" ")[2] or "…"
    return f": {shown}" if shown else ""


async def _keep_end(stream: asyncio.StreamReader | None, output: bytearray) -> None:
    while stream is not None and (piece := await stream.read(OUTPUT_KEPT)):
        output += piece
        del output[:-OUTPUT_KEPT]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a check's program is told of the revision, and what must not be told of its output."""

    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Secrets | None = None
    """None: not known."""


def surroundings(rollout: Rollout, revision: str, template: Template | None) -> Surroundings:
    """Those of one revision. `template` None: it has not been read yet, and nobody knows what is secret."""
    env = {"PHOENIX_SERVICE": rollout.service, "PHOENIX_REVISION": revision}
    if template is None:
        return Surroundings(env)
    programs = [check.exec for check in rollout.spec.checks if check.exec is not None]
    paths = [path.http for path in rollout.spec.verify.critical_paths]
    requests = [*(check.http for check in rollout.spec.checks if check.http is not None), *paths]
    commands = [template.command, *(program.command for program in programs)]
    known = [
        *secrets_of(template.env, urls=(request.url for request in requests)),
        *(value for program in programs for value in secrets_of(program.env)),
        *(word for words in commands for word in secrets_of_words(words)),
    ]
    return Surroundings({**env, "PHOENIX_VERSION": template.version}, Secrets(known))


def _calls_route(check: Check) -> bool:
    """It needs the address that users call: while that is not known it says nothing at all."""
    return check.http is not None and "route" in placeholders.words(check.http.url)


class CheckRunner:
    """All checks of one revision of one rollout, each in a task of its own, until `stop`."""

    def __init__(
        self,
        checks: Sequence[Check],
        clock: Clock,
        *,
        targets: Callable[[], Sequence[str]],
        route: Callable[[], Route],
        changed: Callable[[], None],
        surroundings: Callable[[], Surroundings] = Surroundings,
    ) -> None:
        self.states: dict[str, CheckState] = {check.name: CheckState() for check in checks}
        self._clock = clock
        self._targets = targets
        self._route = route
        self._changed = changed
        self._surroundings = surroundings
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
                if targets and (self._route().url or not _calls_route(check)):
                    try:
                        with tracing.span("check", phoenix_check=check.name) as span:
                            failure = await self._failure(check, client, targets)
                            if failure is not None:
                                span.fail("check")
                    except Exception as error:  # noqa: BLE001 - a check that ended silently would count as passed
                        failure = told(f"{type(error).__name__}: {error}")
                    self._count(check, failure)
                await self._clock.sleep(check.interval)

    def _count(self, check: Check, failure: str | None) -> None:
        if failure is None:
            self.states[check.name] = CheckState()
            return
        self.states[check.name] = CheckState(self.states[check.name].failures + 1, failure)
        self._changed()

    async def _failure(self, check: Check, client: httpx.AsyncClient, targets: Sequence[str]) -> str | None:
        """The first instance's failure; one bad instance is a bad revision."""
        limit, route = check.timeout.total_seconds(), self._route()
        for target in targets:
            places = {"canary": target, "route": route.url}
            if check.http is not None:
                url = placeholders.fill(check.http.url, places)
                host = route.host if check.http.url.startswith("{route}") else None
                failure = await http_failure(client, check.http, url, limit=limit, host=host)
            elif check.exec is not None:
                around = self._surroundings()
                env = {
                    **{name: placeholders.fill(value, places) for name, value in check.exec.env.items()},
                    **around.env,
                    "PHOENIX_CANARY_URL": target,
                    "PHOENIX_ROUTE_URL": route.url,
                    "PHOENIX_ROUTE_HOST": route.host or "",
                }
                words = tuple(placeholders.fill(word, places) for word in check.exec.command)
                program = check.exec.model_copy(update={"command": words})
                failure = await command_failure(program, env, limit=limit, secrets=around.secrets)
            else:
                failure = None
            if failure is not None:
                return failure
        return None
