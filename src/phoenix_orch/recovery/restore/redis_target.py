"""Restore a whole dump into a server that runs, without touching its files: it follows us for a moment.

    REPLICAOF us → it takes the dump, whole or not at all → REPLICAOF NO ONE

From the first command to the last the server takes no writes. With `appendonly yes` it rewrites its file by
itself; putting a dump into its directory instead would make it start empty.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

from phoenix_orch.kernel.errors import BadState, PhoenixError, Retryable, Terminal
from phoenix_orch.recovery.objects import Writer
from phoenix_orch.recovery.rdb_header import RdbHeader
from phoenix_orch.recovery.redis_address import RedisAddress
from phoenix_orch.recovery.redis_asking import CONNECT_TIMEOUT, asking, facts, translated
from phoenix_orch.recovery.redis_facts import RedisFacts
from phoenix_orch.recovery.restore.feed import Feed, door
from phoenix_orch.recovery.restore.feed_tls import GIVE, Certificate
from phoenix_orch.recovery.restore.rdb_versions import unreadable
from phoenix_orch.recovery.restore.redis_preflight import Target

_LOOK = 0.1
"""Seconds between looks whether the target has loaded."""
_PROMOTE = 30.0
"""Seconds for the target to become a primary again."""

Pour = Callable[[Writer], object]
"""Writes a whole dump, and returns when every byte of it has been proven; else raises."""


class NotLoadedError(Terminal):
    """The target got the whole dump and did not load it. What it holds now is uncertain."""


class NotReleasedError(Terminal):
    """The target may still follow us, and takes no writes until it is made a primary again."""


@dataclass(frozen=True, slots=True)
class Listen:
    """How the target reaches us."""

    host: str = ""
    """Empty: the address by which we reach it."""
    port: int = 0
    bind: str = ""
    """Where to listen; empty: `host`."""
    any_peer: bool = False
    """Take whoever comes from any address: behind address translation the target seems to be another."""
    certificate: Certificate | None = None
    """For a target that takes data over TLS alone."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of it."""

    header: RdbHeader
    sent: int
    """Bytes of the dump."""
    loaded: int
    """Keys that the target loaded; where it does not count them, those that it has."""
    expired: int
    """Keys that it left out, as their time was over."""
    seconds: float
    after: RedisFacts

    def missing(self, keys: int) -> bool:
        """Whether these cannot be all of so many. Of a server that does not count only what is certain."""
        if self.after.loaded is None:
            return self.loaded > keys or (keys > self.loaded == 0)
        return self.loaded + self.expired != keys


def target_of(client: Redis) -> Target:
    """What has to be known of a server before it takes a copy. Raises RedisError."""
    found = facts(client)
    settings: dict[str, str] = {}
    with contextlib.suppress(ResponseError):
        for name in ("repl-diskless-load", "tls-replication", "min-replicas-to-write"):
            settings |= {str(key): str(value) for key, value in client.config_get(name).items()}
    sentinels = 0
    with contextlib.suppress(ResponseError):
        sentinels = sum(str(one.get("name", "")).startswith("sentinel-") for one in client.client_list())
    return Target(
        found,
        may_follow=_may_follow(client),
        diskless_load=settings.get("repl-diskless-load", ""),
        tls_replication=settings.get("tls-replication") == "yes",
        sentinels=(sentinels + 1) // 2,  # each has a connection for commands and one for messages
        stop_writes=int(settings.get("min-replicas-to-write") or 0),
    )


def _may_follow(client: Redis) -> bool:
    """Whether REPLICAOF is there and allowed, found without calling it."""
    client.set_response_callback("COMMAND", lambda reply, **_: reply)  # redis-py's fails on what is not there
    with contextlib.suppress(ResponseError):
        known = client.execute_command("COMMAND", "INFO", "REPLICAOF")  # type: ignore[no-untyped-call]
        if known in ([None], {}, []):
            return False
    with contextlib.suppress(ResponseError):
        who = client.execute_command("ACL", "WHOAMI")  # type: ignore[no-untyped-call]
        answer = client.execute_command("ACL", "DRYRUN", who, "REPLICAOF", "NO", "ONE")  # type: ignore[no-untyped-call]
        return str(answer) == "OK"
    return True


class Session:
    """A target that waits for its data: `write` a whole dump, then `commit`."""

    def __init__(self, target: RedisAddress, feed: Feed, load_within: float) -> None:
        self._target = target
        self._feed = feed
        self._within = load_within
        self._begun = time.monotonic()
        self.loaded: Loaded | None = None

    def write(self, data: bytes, /) -> int:
        return self._feed.write(data)

    def commit(self) -> Loaded:
        """Say that every byte is proven, and wait until the target has loaded them. Raises PhoenixError."""
        feed = self._feed
        feed.commit()
        _await_load(self._target, feed, self._within)
        assert feed.header is not None
        after = alone(self._target)  # while it still hears us: it would ask for everything again
        seconds = time.monotonic() - self._begun
        loaded = after.keys if after.loaded is None else after.loaded
        self.loaded = Loaded(feed.header, feed.sent, loaded, after.expired, seconds, after)
        return self.loaded


@contextlib.contextmanager
def feeding(
    target: RedisAddress,
    *,
    listen: Listen | None = None,
    come_within: float = 30.0,
    load_within: float = 3600.0,
    following: Callable[[], None] = lambda: None,
    release: bool = True,
    tell: Callable[[str], None] = lambda _: None,
) -> Iterator[Session]:
    """Have the target wait for a dump. Left without `commit`, it keeps the data that it has.

    `following`: called when the target is about to follow us. In every end the target is made a primary
    again; where that fails it is NotReleasedError, which says the command to type. `release`: False for one
    that is thrown away whatever comes. `tell` hears that it is released before its time. Raises PhoenixError:
    the target has its old data, except for NotLoadedError.
    """
    listen = listen or Listen()
    here, peer = _ends(target)
    certificate = listen.certificate
    with door(listen.host or here, listen.port, bind=listen.bind, certificate=certificate) as entrance:
        with asking(target) as client:
            before = facts(client)
            if before.role != "master":
                raise BadState(f"{target} is a replica", remedy="restore into its primary")
            comes = _comes(client)
            if comes.secured and certificate is None:
                raise BadState(
                    f"{target} takes data over TLS alone, and has no certificate to trust", remedy=GIVE
                )
            following()
            _follow(client, entrance.host, entrance.port)
        try:
            waiting = entrance.replica(
                peer="" if listen.any_peer else peer,
                announces=None if target.socket else comes.port,
                accept=lambda header: _readable(before, header),
                within=come_within,
                secured=comes.secured,
            )
            with waiting as feed:
                session = Session(target, feed, load_within)
                yield session
            if session.loaded is None:
                alone(target)
        except BaseException as error:
            if release:
                tell(f"broken off: {target} is made a primary again, so that it takes writes")
                _release(target, error)
            raise


def load(target: RedisAddress, pour: Pour, **options: Any) -> Loaded:
    """Make the target take the dump that `pour` writes, as all of its data. Options and errors: `feeding`."""
    with feeding(target, **options) as session:
        pour(session)
        return session.commit()


def alone(target: RedisAddress) -> RedisFacts:
    """Make the target a primary again, and see that it is. Idempotent. Raises PhoenixError."""
    give_up = time.monotonic() + _PROMOTE
    while True:
        try:
            with asking(target) as client:
                client.execute_command("REPLICAOF", "NO", "ONE")  # type: ignore[no-untyped-call]
                found = facts(client)
            if found.role == "master":
                return found
            error: PhoenixError = Retryable(f"{target} still follows another server")
        except PhoenixError as caught:
            error = caught
        if time.monotonic() > give_up:
            raise NotReleasedError(
                f"{target} could not be made a primary again: {error.message}",
                remedy=f"type {command_for(target)} REPLICAOF NO ONE; until then it takes no writes",
            )
        time.sleep(_LOOK)


def command_for(target: RedisAddress) -> str:
    """How a person talks to it by hand; the password is asked for, not shown."""
    words = [
        f"redis-cli -s {target.socket}" if target.socket else f"redis-cli -h {target.host} -p {target.port}"
    ]
    words += [f"--user {target.username}"] if target.username else []
    words += ["--askpass"] if target.password else []
    if (tls := target.tls) is not None:
        files = {"--cacert": tls.ca_file, "--cert": tls.cert_file, "--key": tls.key_file}
        words += ["--tls", *(f"{name} {file}" for name, file in files.items() if file is not None)]
    return " ".join(words)


def _release(target: RedisAddress, error: BaseException) -> None:
    try:
        alone(target)
    except PhoenixError as lost:
        if isinstance(error, PhoenixError):
            kind = NotLoadedError if isinstance(error, NotLoadedError) else NotReleasedError
            raise kind(f"{error.message}; and {lost.message}", remedy=lost.remedy) from error
        raise lost from error


def _follow(client: Redis, host: str, port: int) -> None:
    client.execute_command("REPLICAOF", host, port)  # type: ignore[no-untyped-call]


def _readable(target: RedisFacts, header: RdbHeader) -> None:
    if why := unreadable(target.server, target.version, header.format):
        raise Terminal(why, remedy="restore into a server of the kind that the copy was taken from")


@dataclass(frozen=True, slots=True)
class _Comes:
    """How the target will come for its data; None where it does not tell."""

    port: int | None = None
    """The one that it will say it listens on."""
    secured: bool | None = None
    """Over TLS."""


def _comes(client: Redis) -> _Comes:
    with contextlib.suppress(ResponseError):
        found = {**client.config_get("*port"), **client.config_get("tls-replication")}
        ports = {name: int(found.get(name) or 0) for name in ("replica-announce-port", "tls-port", "port")}
        secured = found.get("tls-replication") == "yes"
        own = (secured and ports["tls-port"]) or ports["port"]
        return _Comes(ports["replica-announce-port"] or own, secured)
    return _Comes()


def _ends(target: RedisAddress) -> tuple[str, str]:
    """Our address as the target reaches it, and its own as we do."""
    if target.socket:
        return "127.0.0.1", ""
    try:
        with socket.create_connection((target.host, target.port), timeout=CONNECT_TIMEOUT) as connection:
            return connection.getsockname()[0], connection.getpeername()[0]
    except OSError as error:
        raise translated(target, error) from None


def _await_load(target: RedisAddress, feed: Feed, within: float) -> None:
    """Wait until the target has the data as its own."""
    give_up = time.monotonic() + within
    for found in _looks(target):
        if found is not None and found.link_up and not found.loading:
            return
        if feed.gone():
            raise NotLoadedError(
                f"{target} took all {feed.sent:,} bytes and did not load them",
                remedy="see its log: it may lack memory, a module, or a newer version; its data is uncertain "
                "until the safety copy is restored",
            )
        if time.monotonic() > give_up:
            raise NotLoadedError(
                f"{target} has not loaded {feed.sent:,} bytes within {within:g} s",
                remedy="see its log, and whether it still loads (`INFO persistence`)",
            )


def _looks(target: RedisAddress) -> Iterator[RedisFacts | None]:
    """What the target says, again and again; None while it is too busy to say it."""
    while True:
        try:
            with asking(target) as client:
                while True:
                    yield facts(client)
                    time.sleep(_LOOK)
        except Retryable:
            yield None
            time.sleep(_LOOK)
