"""Real Redis and Valkey servers for tests: alone, with replicas, as a cluster, with TLS."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import AuthenticationError, BusyLoadingError
from redis.exceptions import ConnectionError as Unreachable
from tests.debian import cache, program

from phoenix_orch.recovery.redis_address import RedisAddress
from phoenix_orch.runtime.valkey_program import find_binary

QUICK = ("--save", "", "--repl-diskless-sync-delay", "0", "--enable-debug-command", "local")
PATIENCE = 300.0
"""Seconds for an answer: a digest of a million keys takes a while."""


@dataclass
class Server:
    """One that runs."""

    process: subprocess.Popen[bytes]
    directory: Path
    port: int

    @property
    def address(self) -> RedisAddress:
        return RedisAddress(port=self.port)

    def client(self, **options: Any) -> Redis:
        return Redis(port=self.port, decode_responses=True, **{"socket_timeout": PATIENCE, **options})

    def ask(self, *words: Any) -> Any:
        with self.client() as client:
            return client.execute_command(*words)

    def digest(self) -> str:
        return str(self.ask("DEBUG", "DIGEST"))

    def log(self) -> str:
        return (self.directory / "log").read_text("utf-8", "replace")

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def valkey() -> Path:
    return find_binary(None)


def redis7() -> Path:
    """Debian's redis-server 7.0."""
    return program("redis-server", "redis-server")


def surroundings(binary: Path) -> dict[str, str]:
    """Environment in which a program finds the libraries that were unpacked beside it."""
    libraries = [str(found) for found in binary.parents[1].glob("lib/*-linux-gnu*")]
    path = {"LD_LIBRARY_PATH": ":".join(libraries)} if str(cache()) in str(binary) else {}
    return {**os.environ, **path}


def free_port() -> int:
    """One below those that the kernel gives to clients, with its cluster bus port free, too."""
    for port in range(20000 + time.monotonic_ns() // 1000 % 2000, 32000):
        with socket.socket() as one, socket.socket() as bus:
            try:
                one.bind(("127.0.0.1", port))
                bus.bind(("127.0.0.1", port + 10000))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


@contextlib.contextmanager
def serving(
    directory: Path, *options: str, binary: Path | None = None, quick: Sequence[str] = QUICK
) -> Iterator[Server]:
    """A server that answers. `options`: as on its command line; `quick`: those that spare tests waiting."""
    directory.mkdir(parents=True, exist_ok=True)
    port, binary = free_port(), binary or valkey()
    listen = () if "--port" in options else ("--port", str(port))
    command = (
        *(str(binary), *listen, "--bind", "127.0.0.1"),
        *("--dir", str(directory), "--logfile", str(directory / "log"), *quick, *options),
    )
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, env=surroundings(binary)
    )
    server = Server(process, directory, port)
    try:
        if "--port" not in options:
            answers(server)
        yield server
    finally:
        server.stop()


def answers(server: Server) -> None:
    """Wait until it does."""
    give_up = time.monotonic() + 30
    while True:
        with contextlib.suppress(Unreachable, BusyLoadingError):
            with contextlib.suppress(AuthenticationError):
                server.ask("PING")
            return
        assert server.process.poll() is None, server.log()
        assert time.monotonic() < give_up, server.log()
        time.sleep(0.02)


@contextlib.contextmanager
def replica_of(
    primary: Server, directory: Path, *options: str, binary: Path | None = None
) -> Iterator[Server]:
    """A replica that has the data of the primary."""
    with serving(directory, "--replicaof", f"127.0.0.1 {primary.port}", *options, binary=binary) as server:
        linked(server)
        yield server


def linked(server: Server) -> None:
    """Wait until a replica is up to its primary."""
    until(lambda: server.client().info("replication")["master_link_status"] == "up", server.log)


def until(holds: Any, tell: Any = str, within: float = 30.0) -> None:
    give_up = time.monotonic() + within
    while not holds():
        assert time.monotonic() < give_up, tell()
        time.sleep(0.02)


@contextlib.contextmanager
def cluster(directory: Path, shards: int = 3, replicas: int = 1) -> Iterator[list[Server]]:
    """A cluster that serves all slots: first the primaries, then the replicas in the same order."""
    with contextlib.ExitStack() as stack:
        nodes = [
            stack.enter_context(
                serving(
                    directory / f"node{number}", "--cluster-enabled", "yes", "--cluster-node-timeout", "5000"
                )
            )
            for number in range(shards * (1 + replicas))
        ]
        width = 16384 // shards
        for number, node in enumerate(nodes[:shards]):
            last = 16383 if number == shards - 1 else (number + 1) * width - 1
            node.ask("CLUSTER", "ADDSLOTSRANGE", number * width, last)
        for node in nodes[1:]:
            node.ask("CLUSTER", "MEET", "127.0.0.1", nodes[0].port)
        until(lambda: all(_known(node) == len(nodes) for node in nodes))
        for number, node in enumerate(nodes[shards:]):
            primary = nodes[number % shards]
            wanted = primary.ask("CLUSTER", "MYID")
            until(lambda node=node, wanted=wanted: _replicates(node, wanted), node.log)
            linked(node)
        until(lambda: all(_state(node) == "ok" for node in nodes))
        yield nodes


def _known(node: Server) -> int:
    return int(node.client().cluster("info")["cluster_known_nodes"])


def _state(node: Server) -> str:
    return str(node.client().cluster("info")["cluster_state"])


def _replicates(node: Server, primary: str) -> bool:
    with contextlib.suppress(Exception):
        node.ask("CLUSTER", "REPLICATE", primary)
        return True
    return False


def filled(client: Redis, count: int = 300, prefix: str = "") -> None:
    """Keys of many types, with and without TTL."""
    pipe = client.pipeline(transaction=False)
    for number in range(count):
        key = f"{prefix}{number}"
        pipe.set(f"string:{key}", f"value {number}" * (1 + number % 20))
        pipe.set(f"ttl:{key}", number, ex=100_000 + number)
        pipe.hset(f"hash:{key}", mapping={f"field{n}": number * n for n in range(1 + number % 5)})
        pipe.rpush(f"list:{key}", *range(1 + number % 7))
        pipe.sadd(f"set:{key}", *(f"m{n}" for n in range(1 + number % 6)))
        pipe.zadd(f"zset:{key}", {f"m{n}": n / 3 for n in range(1 + number % 8)})
        pipe.xadd(f"stream:{key}", {"n": str(number)}, id=f"{number + 1}-1")
        if number % 10 == 0:
            pipe.xgroup_create(f"stream:{key}", "readers", id="0")
            pipe.xreadgroup("readers", "anna", {f"stream:{key}": ">"}, count=1)
    pipe.execute()
