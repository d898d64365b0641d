"""What a Redis or Valkey server refuses, in our words and with what to do about it. Pure.

The words of a server may repeat what it was sent; the password never is among what is told.
"""

from __future__ import annotations

import re

from phoenix_orch.kernel.errors import Forbidden, PhoenixError, Retryable, Terminal
from phoenix_orch.kernel.text import plain
from phoenix_orch.recovery.redis_address import RedisAddress

ACL = "ACL SETUSER NAME on >PASSWORD +psync +replconf +ping"
"""Creates the user with the least rights that can take a copy."""
_ECHO = re.compile(r",? with args beginning with.*", re.DOTALL)
_CAUSES: tuple[tuple[re.Pattern[str], type[PhoenixError], str, str], ...] = (
    (
        re.compile(r"^WRONGPASS|invalid password|^ERR AUTH failed", re.IGNORECASE),
        Terminal,
        "refuses the user or the password",
        "look at username and password of this server; `ACL LIST` there shows its users",
    ),
    (
        re.compile(r"called without any password configured"),
        Terminal,
        "has no password, and one was given",
        "leave the password out, or set one there with requirepass or ACL SETUSER",
    ),
    (
        re.compile(r"^NOAUTH"),
        Terminal,
        "wants a login",
        f"give username and password; there: {ACL}",
    ),
    (
        re.compile(r"^NOPERM"),
        Forbidden,
        "does not let this user do it",
        "an administrator adds the right there; taking a copy needs +psync +replconf +ping",
    ),
    (
        re.compile(r"^LOADING"),
        Retryable,
        "is loading its data",
        "wait until `INFO persistence` there says loading:0",
    ),
    (
        re.compile(r"^(NOMASTERLINK|MASTERDOWN)|Can't SYNC while not connected with my master"),
        Retryable,
        "is a replica without a link to its primary, and has no whole data to give",
        "mend the link (`INFO replication` there), or take the copy from the primary",
    ),
    (
        re.compile(r"^ERR unknown command", re.IGNORECASE),
        Terminal,
        "does not know this command",
        "a managed service or a proxy may refuse replication: use its own snapshots",
    ),
    (
        re.compile(r"^DENIED"),
        Terminal,
        "runs in protected mode and answers this machine nothing else",
        "give it a password (requirepass or ACL SETUSER), or let it listen to this machine alone",
    ),
    (
        re.compile(r"^OOM"),
        Retryable,
        "has no memory left for writes (maxmemory)",
        "raise it there (`CONFIG SET maxmemory BYTES`), or remove keys that nobody needs",
    ),
    (
        re.compile(r"max number of clients reached"),
        Retryable,
        "has no connection left",
        "raise its maxclients, or end clients that are not needed (`CLIENT LIST`)",
    ),
)


def refused(address: RedisAddress, asked: str, said: str) -> PhoenixError:
    """The error for the server's answer `said` (without its `-`) to the command `asked`."""
    first = _ECHO.sub("", said).strip().partition("\n")[0]
    told = plain(first.replace(address.password, "***") if address.password else first)
    for pattern, kind, meaning, remedy in _CAUSES:
        if pattern.search(first):
            return kind(f"{address} {meaning}: {asked} was answered with {told!r}", remedy=remedy)
    return Terminal(
        f"{address} refuses {asked}: {told!r}",
        remedy="see the log of that server; it says why",
    )


def unreachable(address: RedisAddress, error: Exception) -> PhoenixError:
    """The error for a connection that could not be made or kept."""
    words = str(getattr(error, "strerror", None) or error).strip()
    said = plain(words).lower() or ("no answer in time" if isinstance(error, TimeoutError) else "closed")
    if "certificate" in said or "ssl" in type(error).__name__.lower():
        return Terminal(
            f"{address} cannot be trusted over TLS: {said}",
            remedy="name the authority that signed its certificate (caFile), a client certificate where it "
            "asks for one, and leave tls out where it speaks none",
        )
    return Retryable(
        f"{address} cannot be reached: {said}",
        remedy="see whether the server runs and listens there, and whether a firewall or a NetworkPolicy "
        "keeps this machine out",
    )
