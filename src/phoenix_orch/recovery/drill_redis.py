"""Rehearse the recovery of a Redis: a fresh server loads the copy, and a replica takes it from there."""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from redis import Redis
from redis.exceptions import ResponseError

from phoenix_orch.kernel.errors import Retryable, Terminal
from phoenix_orch.recovery.drill_copy import Fetched
from phoenix_orch.recovery.drill_report import Phase
from phoenix_orch.recovery.drill_steps import Ledger
from phoenix_orch.recovery.errors import Stopped
from phoenix_orch.recovery.rdb_load import Rehearsed, rehearsing
from phoenix_orch.recovery.redis_address import RedisAddress
from phoenix_orch.recovery.redis_asking import asking, facts_of
from phoenix_orch.recovery.server_program import Program, loader
from phoenix_orch.recovery.throwaway_valkey import throwaway

_PATIENCE = 600.0
"""Seconds in which a replica has to have everything."""
_LOOK = 0.05
_PORTS = 5
"""Free ports that are tried: another process may be quicker."""
_WAIT = 5000
"""Milliseconds that a write may take to its replica."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """A fresh server that has the copy as its data."""

    address: RedisAddress
    rehearsed: Rehearsed
    program: Program


@contextlib.contextmanager
def loaded(ledger: Ledger, copy: Fetched, servers: Sequence[Path] = ()) -> Iterator[Recovered]:
    """The server is there for one block. `servers`: for copies that the package's does not read. Raises
    StepFailedError."""
    with contextlib.ExitStack() as stack:
        with ledger.step(Phase.LOAD, copy.subject) as note:
            program = loader(copy.manifest, servers)
            ledger.tools |= program.tools
            server = stack.enter_context(throwaway(program.path))
            with rehearsing(copy.manifest, server) as rehearsal:
                copy.open(rehearsal, note.moved, ledger.stop)
                note.detail = rehearsal.finish()
            result = rehearsal.result
        assert result is not None  # else the step has failed
        yield Recovered(server, result, program)


def replicated(ledger: Ledger, copy: Fetched, recovered: Recovered) -> Recovered:
    """A replica takes all of it, and a write gets there. The server asks for a password afterwards: use what
    is returned. Raises StepFailedError."""
    with ledger.step(Phase.REPLICATE, copy.subject) as note, throwaway(recovered.program.path) as replica:
        begun = time.monotonic()
        primary, port = _reachable(recovered.address)
        with asking(replica) as client:
            client.config_set("masterauth", primary.password)
            client.execute_command("REPLICAOF", "127.0.0.1", port)  # type: ignore[no-untyped-call]
        _await_data(primary, replica, ledger.stop)
        seconds = time.monotonic() - begun
        _written(primary, replica)
        note.bytes = recovered.rehearsed.loaded.sent
        note.detail = f"a replica had everything in {seconds:.1f} s, and a write reached it"
    return dataclasses.replace(recovered, address=primary)


def _reachable(server: RedisAddress) -> tuple[RedisAddress, int]:
    """Have it listen on this machine, for those who know a password of the moment. Raises PhoenixError."""
    password = secrets.token_urlsafe(24)
    with asking(server) as client:
        client.config_set("repl-diskless-sync-delay", "0")
        client.config_set("requirepass", password)
        return dataclasses.replace(server, password=password), _listening(client)


def _listening(client: Redis) -> int:
    """The port from now on. Raises Retryable."""
    for _ in range(_PORTS):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = int(free.getsockname()[1])
        with contextlib.suppress(ResponseError):  # another process was quicker
            client.execute_command("CONFIG", "SET", "bind", "127.0.0.1", "port", port)  # type: ignore[no-untyped-call]
            return port
    raise Retryable("no port was free for a replica to copy from", remedy="run the drill again")


def _await_data(primary: RedisAddress, replica: RedisAddress, stop: Callable[[], bool]) -> None:
    """Until the replica holds what the primary does. Raises Terminal, Stopped."""
    give_up = time.monotonic() + _PATIENCE
    while True:
        there = facts_of(replica)
        here = facts_of(primary)
        if there.link_up and not there.loading and there.databases == here.databases:
            return
        if stop():
            raise Stopped("the drill was stopped; nothing was recorded", remedy="start it again")
        if time.monotonic() > give_up:
            raise Terminal(
                f"after {_PATIENCE:g} s a replica has {there.keys:,} keys of {here.keys:,}; its link is "
                f"{'up' if there.link_up else 'down'}",
                remedy="see whether this machine has memory for the data twice",
            )
        time.sleep(_LOOK)


def _written(primary: RedisAddress, replica: RedisAddress) -> None:
    """Raises Terminal unless a write comes through."""
    name, value = f"phoenix:drill:{secrets.token_hex(8)}", secrets.token_hex(8)
    with asking(primary) as client:
        client.set(name, value, ex=600)
        reached = int(client.execute_command("WAIT", 1, _WAIT))  # type: ignore[no-untyped-call]
        with asking(replica) as other:
            found = other.get(name)
        client.delete(name)
    if reached < 1 or found != value:
        raise Terminal(f"a write did not reach the replica within {_WAIT / 1000:g} s")


def healthy(recovered: Recovered) -> str:
    """In a line. Raises PhoenixError where the server does not serve as a primary, with its data."""
    found = facts_of(recovered.address)
    if found.role != "master" or found.loading:
        raise Terminal(f"the recovered server is a {found.role} and does not serve")
    return f"serves {found.keys:,} keys"
