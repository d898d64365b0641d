"""Which dumps a server can read. Pure.

Redis and Valkey went apart at format 11 (7.2). Redis 7.4 and later count on with `REDIS0012`, which Valkey
refuses; Valkey 9 writes `VALKEY080`, which Redis refuses. Source: `RDB_VERSION` in rdb.h of each release.
"""

from __future__ import annotations

import re

_REDIS = ((6, 0, 9), (7, 0, 10), (7, 2, 11), (7, 4, 12), (8, 6, 13), (8, 8, 14))
"""Major, minor, newest format from that version on."""
_KNOWN = (8, 8)
"""Of later releases of Redis it is not known what they read; more than those before."""
_SHARED = 11
_VALKEY = 80
_KNOWN_VALKEY = (9, 1)
_FORMAT = re.compile(r"(REDIS|VALKEY)([0-9]{3,4})")


def unreadable(server: str, version: str, format_: str) -> str:
    """Why the server cannot read a dump of that format, or empty. `format_`: its first nine bytes."""
    found = _FORMAT.fullmatch(format_)
    if found is None:
        return f"{format_!r} is no format of a dump"
    number, release = int(found[2]), _release(version)
    wanted = f"{server} {version}"
    if found[1] == "VALKEY":
        if server == "valkey" and release >= (9, 0) and (number <= _VALKEY or release > _KNOWN_VALKEY):
            return ""
        who = "Valkey 9 and newer write" if number <= _VALKEY else "a newer Valkey writes"
        return f"{wanted} cannot read {format_}, which {who}"
    if server == "valkey":
        return "" if number <= _SHARED else f"{wanted} cannot read {format_}, which Redis 7.4 and newer write"
    newest = max((top for major, minor, top in _REDIS if (major, minor) <= release), default=9)
    if number <= newest or release > _KNOWN:
        return ""
    return f"{wanted} reads formats up to {newest}, and this is {format_}"


def reader(format_: str) -> str:
    """In words, what reads that format, and the package's Valkey may not."""
    found = _FORMAT.fullmatch(format_)
    if found is None or found[1] == "VALKEY":
        return "a valkey-server as new as the one that was copied"
    since = next(((major, minor) for major, minor, top in _REDIS if int(found[2]) <= top), None)
    if since is None:
        return "a redis-server as new as the one that was copied"
    return f"a redis-server of version {since[0]}.{since[1]} or newer"


def _release(version: str) -> tuple[int, int]:
    major, minor, *_ = (*map(int, re.findall(r"[0-9]+", version)), 0, 0)
    return major, minor
