"""Ask a Redis or Valkey server what it is. Blocking, in bounded time, with Phoenix's errors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as Unreachable
from redis.exceptions import TimeoutError as NoAnswer
from redis.retry import Retry

from phoenix_orch.kernel.errors import PhoenixError, Retryable
from phoenix_orch.recovery.redis_address import RedisAddress
from phoenix_orch.recovery.redis_errors import refused, unreachable
from phoenix_orch.recovery.redis_facts import RedisFacts, from_info, shown_settings, shown_user

CONNECT_TIMEOUT = 5.0
ANSWER_TIMEOUT = 15.0
"""Seconds; a server that loads a large value answers late."""


@contextlib.contextmanager
def asking(
    address: RedisAddress, *, timeout: float = ANSWER_TIMEOUT, text: bool = True, database: int = 0
) -> Iterator[Redis]:
    """A client for one block; errors of redis-py become Phoenix's. `text`: answers are decoded."""
    client = Redis(
        **address.client_options(),
        db=database,
        decode_responses=text,
        socket_connect_timeout=CONNECT_TIMEOUT,
        socket_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )
    try:
        with client:
            yield client
    except (RedisError, OSError) as error:
        raise translated(address, error) from None  # the original may repeat the password


def translated(address: RedisAddress, error: Exception) -> PhoenixError:
    """What an error of redis-py means."""
    said = str(error)
    match error:
        case NoPermissionError():
            return refused(address, "a command", f"NOPERM {said}")
        case AuthenticationError() if "without any password" not in said:
            return refused(address, "AUTH", "NOAUTH" if "required" in said else f"WRONGPASS {said}")
        case OutOfMemoryError():
            return refused(address, "a command", f"OOM {said}")
        case BusyLoadingError():
            return refused(address, "a command", f"LOADING {said}")
        case AuthenticationError() | ResponseError():
            return refused(address, "a command", said)
        case NoAnswer() | TimeoutError():
            return Retryable(
                f"{address} does not answer in time", remedy="see whether it is busy (`SLOWLOG GET` there)"
            )
        case Unreachable() | OSError():
            cause = error.__cause__ or error.__context__
            return unreachable(address, cause if isinstance(cause, OSError) else error)
    return refused(address, "a command", said)


def facts_of(address: RedisAddress) -> RedisFacts:
    """Ask one server. Raises PhoenixError; Terminal where the user may not ask INFO."""
    with asking(address) as client:
        return facts(client)


def facts(client: Redis) -> RedisFacts:
    """The same with a client at hand. Raises RedisError."""
    info: dict[str, Any] = {**client.info(), **client.info("modules")}
    return from_info(info)


def functions(client: Redis) -> int | None:
    """Functions that are loaded; None where the server has none or does not tell."""
    with contextlib.suppress(ResponseError):
        answer = client.execute_command("FUNCTION", "LIST")  # type: ignore[no-untyped-call]
        return sum(len(_pairs(library).get("functions", ())) for library in answer)
    return None


def configuration(client: Redis) -> dict[str, Any]:
    """What a dump does not hold: settings and users, without secrets; empty where we may not ask."""
    found: dict[str, Any] = {}
    with contextlib.suppress(ResponseError):
        found["settings"] = shown_settings(
            {str(name): str(value) for name, value in client.config_get("*").items()}
        )
    with contextlib.suppress(ResponseError):
        found["users"] = [shown_user(str(rule)) for rule in client.acl_list()]
    return found


def _pairs(reply: Any) -> dict[str, Any]:
    """A map of RESP2: keys and values in turn."""
    if isinstance(reply, dict):
        return reply
    return dict(zip(reply[::2], reply[1::2], strict=False))
