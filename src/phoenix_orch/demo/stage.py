"""The running demo: Phoenix, the shop behind its router, and users. All of it ends with the block."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from phoenix_orch.client import Client
from phoenix_orch.demo.children import Child, last_words
from phoenix_orch.demo.machine import load, too_busy
from phoenix_orch.demo.scenario import SERVICE, configuration
from phoenix_orch.demo.users import Users, read_line
from phoenix_orch.kernel.errors import NotFound, Retryable, Terminal
from phoenix_orch.rollout.status import State

T = TypeVar("T")

PHOENIX = "phoenix_orch.cli.main"
PHOENIX_LOG = "phoenix.log"
LOAD_LOG = "load.log"
READY_SECONDS = 180.0
"""Longest wait for Phoenix and the first version; a cold, busy machine takes a while."""
AWAY_SECONDS = 60.0
"""Longest time that a running Phoenix may not answer."""
_ANSWER_SECONDS = 5.0
_PHOENIX_GRACE = 25.0
_LOAD_GRACE = 8.0
_GUARD_GRACE = 3.0
_LOAD_LIMIT_SECONDS = 4 * 3600.0
_LOOK_SECONDS = 0.1


@dataclass
class Stage:
    """What the releases play on."""

    root: Path
    client: Client
    phoenix: Child
    address: str
    users: Users = field(default_factory=Users)
    rate: float = 0.0
    """Requests per second that users got answered lately."""
    load: Child | None = None

    async def ask(self, call: Callable[[Client], T]) -> T:
        """The answer of Phoenix, which may be away for a moment. Raises Terminal when it is gone."""
        limit = time.monotonic() + AWAY_SECONDS
        while True:
            self.check()
            try:
                return await asyncio.to_thread(call, self.client)
            except Retryable as error:
                if time.monotonic() > limit:
                    raise too_busy(
                        f"Phoenix did not answer for {AWAY_SECONDS:.0f} s: {error.message}"
                    ) from error
            await asyncio.sleep(_LOOK_SECONDS)

    def check(self) -> None:
        """Raise Terminal when something has ended that should be running."""
        if self.phoenix.ended is not None:
            raise _ended("Phoenix", self.phoenix, self.root / PHOENIX_LOG)
        if self.load is not None and self.load.ended is not None:
            raise _ended("the load", self.load, self.root / LOAD_LOG)


@contextlib.asynccontextmanager
async def stage(
    root: Path, *, speed: float, rate: float, keep: bool, say: Callable[[str], None]
) -> AsyncIterator[Stage]:
    """Start everything in `root`; ready when users are being served. Raises Terminal, Retryable."""
    port = _free_port()
    file = root / "phoenix.yaml"
    file.write_text(configuration(port=port, speed=speed, rate=rate), encoding="utf-8")
    async with contextlib.AsyncExitStack() as stack:
        guard = await Child.python(
            root,
            "phoenix_orch.demo.guard",
            *(str(root), *(["--keep"] if keep else [])),
            log=root / "guard.log",
            pipe=True,
        )
        stack.push_async_callback(guard.dismiss, _GUARD_GRACE)
        say("starting Phoenix, its router and the first version of the shop")
        phoenix = await Child.python(
            root,
            PHOENIX,
            *("up", "--file", str(file), "--data-dir", str(root), "--speed", f"{speed:g}"),
            *("--listen", "127.0.0.1:0"),  # beside any other Phoenix
            log=root / PHOENIX_LOG,
        )
        stack.push_async_callback(phoenix.stop, _PHOENIX_GRACE)
        client = stack.enter_context(Client(root, timeout=_ANSWER_SECONDS))
        built = Stage(root=root, client=client, phoenix=phoenix, address=f"http://127.0.0.1:{port}")
        await _serving(built)
        say("starting users")
        built.load = await Child.python(
            root,
            "phoenix_orch.demo.load",
            *("--port", str(port), "--rate", f"{rate:g}", "--seconds", f"{_LOAD_LIMIT_SECONDS:g}"),
            log=root / LOAD_LOG,
            pipe=True,
        )
        stack.push_async_callback(built.load.stop, _LOAD_GRACE)
        reader = asyncio.create_task(_read(built, built.load), name="users")
        stack.callback(reader.cancel)
        await _answered(built)
        yield built


async def _serving(stage: Stage) -> None:
    """Wait until the first version serves."""
    deadline = time.monotonic() + READY_SECONDS
    state = "it does not answer"
    while time.monotonic() < deadline:
        stage.check()
        with contextlib.suppress(Retryable, NotFound):
            view = await asyncio.to_thread(stage.client.rollout, SERVICE)
            status = view.rollout.status
            if status.state is State.IDLE:
                return
            state = f"{status.state.value}: {status.message}"
        await asyncio.sleep(_LOOK_SECONDS)
    words = last_words(stage.root / PHOENIX_LOG)
    raise Terminal(
        f"the shop did not serve within {READY_SECONDS:.0f} s, and {load()}: {state}\n{words}",
        remedy="run `phoenix doctor`; on a machine that is busy, end what else runs and try again",
    )


async def _answered(stage: Stage) -> None:
    """Wait until users got answers."""
    deadline = time.monotonic() + READY_SECONDS
    while stage.users.answered == 0:
        stage.check()
        if time.monotonic() > deadline:
            raise Terminal(f"no request to {stage.address} was answered", remedy="run `phoenix doctor`")
        await asyncio.sleep(_LOOK_SECONDS)


async def _read(stage: Stage, load: Child) -> None:
    """Keep what users saw up to date."""
    while line := await load.line():
        users = read_line(line)
        if users is None:
            continue
        seconds = users.at - stage.users.at
        if stage.users.at and seconds > 0:
            stage.rate = (users.answered - stage.users.answered) / seconds
        stage.users = users


def _ended(what: str, child: Child, log: Path) -> Terminal:
    words = last_words(log)
    return Terminal(
        f"{what} ended with status {child.ended}" + (f"; its last words:\n{words}" if words else ""),
        remedy="run `phoenix doctor`; add --keep to the demo to keep its logs",
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
