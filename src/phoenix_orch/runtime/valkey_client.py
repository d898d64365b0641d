"""A Redis or Valkey client that answers in bounded time, and whose errors are Phoenix's.

Nothing here tries again by itself: after a lost answer nobody knows whether a write took effect, and
only the caller knows what to do about that. Secrets of a URL never get into a message (rule R11).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import redis
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
)

from phoenix_orch.kernel.errors import Invalid, PhoenixError, Retryable, Terminal
from phoenix_orch.runtime.cancellation import cancellation_kept

CONNECT_TIMEOUT = 1.0
COMMAND_TIMEOUT = 2.0
CALL_TIMEOUT = CONNECT_TIMEOUT + 2 * COMMAND_TIMEOUT
"""Seconds that one call may take altogether: waiting for a connection, connecting, the answer."""
_CONNECTIONS = 16

_WRONG_LOGIN = re.compile(r"^(NOAUTH|WRONGPASS|NOPERM)\b")
_ECHO = re.compile(r",? with args beginning with.*", re.DOTALL)


def connect(url: str) -> Redis:
    """A client for `redis://`, `rediss://` or `unix://` URLs; connects at the first call.

    Raises Invalid for anything else; the message does not repeat the URL.
    """
    try:
        _refuse_misread(url)
        pool: Any = BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=COMMAND_TIMEOUT,
            socket_connect_timeout=CONNECT_TIMEOUT,
            socket_timeout=COMMAND_TIMEOUT,
            retry=Retry(NoBackoff(), 0),
            protocol=2,  # the idle connections of RESP3 are not looked at before they are used again
        )
        pool.make_connection()  # refuses options in the URL that do not exist; connects nowhere yet
    except (ValueError, TypeError, RedisError):
        raise Invalid(
            "the address of the store is not a Redis URL",
            remedy="write redis://[[user]:password@]host[:port][/db], rediss://… or unix:///path/to/socket; "
            "characters such as / and @ inside a password are written as %2F and %40",
        ) from None
    return Redis.from_pool(pool)


def connect_blocking(url: str) -> redis.Redis:
    """The same for threads. Raises Invalid as `connect` does."""
    connect(url)
    return redis.Redis.from_pool(
        redis.BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=COMMAND_TIMEOUT,
            socket_connect_timeout=CONNECT_TIMEOUT,
            socket_timeout=CALL_TIMEOUT,
            retry=redis.retry.Retry(NoBackoff(), 0),
            protocol=2,
        )
    )


def _refuse_misread(url: str) -> None:
    """Raise ValueError where an unescaped character in a password would move the rest of it elsewhere:
    to the host, which is told in errors, or to the database, of which redis-py ignores what is no number."""
    parts = urlsplit(url)
    if parts.fragment or "@" in parts.query or (parts.scheme != "unix" and "@" in parts.path):
        raise ValueError
    if parts.scheme != "unix" and not re.fullmatch(r"/?\d*", parts.path):
        raise ValueError


def address(client: Redis | redis.Redis) -> str:
    """Where the client connects to, without user and password."""
    how: dict[str, Any] = client.connection_pool.connection_kwargs
    if "path" in how:
        return str(how["path"])
    return f"{how.get('host', 'localhost')}:{how.get('port', 6379)}"


@contextlib.asynccontextmanager
async def answered(client: Redis) -> Any:
    """Bound the calls inside in time and translate their errors.

    Raises Retryable, or Terminal when a key holds something that is not ours.
    """
    try:
        with cancellation_kept():
            async with asyncio.timeout(CALL_TIMEOUT):
                yield
    except (RedisError, OSError) as error:  # TimeoutError is an OSError
        raise translated(error, client) from None  # the original may repeat the password


def translated(error: Exception, client: Redis | redis.Redis) -> PhoenixError:
    """What `error` means, and what to do about it."""
    where = address(client)
    said = _said(error, client)
    match error:
        case AuthenticationError() | NoPermissionError():
            return _refused_login(where, said)
        case BusyLoadingError():
            return Retryable(f"the store at {where} is loading its data", remedy="wait until it is done")
        case ReadOnlyError():
            return Retryable(
                f"the store at {where} is a read-only replica",
                remedy="name the primary; after a failover it comes back by itself",
            )
        case OutOfMemoryError():
            return Retryable(
                f"the store at {where} has no memory left for writes",
                remedy="raise its maxmemory, or remove what is not needed from it",
            )
    if _WRONG_LOGIN.match(said):
        return _refused_login(where, said)
    if said.startswith("MISCONF"):
        return Retryable(
            f"the store at {where} cannot write to its disk and takes no changes",
            remedy="free space on its disk and look at its permissions; its log has the reason",
        )
    if "WRONGTYPE" in said:
        return Terminal(
            f"a key of Phoenix in the store at {where} holds something that Phoenix did not write",
            remedy="give Phoenix a database or key prefix of its own",
        )
    return Retryable(
        f"the store at {where} does not answer: {said}",
        remedy="see whether the server runs and can be reached: phoenix doctor",
    )


def _refused_login(where: str, said: str) -> Retryable:
    return Retryable(
        f"the store at {where} refuses Phoenix: {said}",
        remedy="look at the user and password in the address of the store, and at that user's rights",
    )


def _said(error: Exception, client: Redis | redis.Redis) -> str:
    """The first line of the error, without anything secret: servers may repeat what they were sent."""
    text = _ECHO.sub("", str(error)).strip().splitlines()
    said = text[0] if text else ""
    for secret in _secrets(client):
        said = said.replace(secret, "***")
    return said or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)


def _secrets(client: Redis | redis.Redis) -> Iterator[str]:
    how: dict[str, Any] = client.connection_pool.connection_kwargs
    for name in ("password", "ssl_password"):
        if how.get(name):
            yield str(how[name])
