"""After a restore: does the primary serve, do its replicas follow, do all hold the same? In words."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from phoenix_orch.kernel.errors import PhoenixError
from phoenix_orch.recovery.redis_address import RedisAddress
from phoenix_orch.recovery.redis_asking import asking, facts_of
from phoenix_orch.recovery.redis_facts import RedisFacts
from phoenix_orch.recovery.restore.slot_owners import EVERY, Span, slot_of

_LOOK = 0.25
_SENTINEL_LIFE = 60_000
"""Milliseconds after which the key is gone by itself."""
_WAIT = 5_000
"""Milliseconds for the replicas to have it."""
_MOST_LAG = 1
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Said:
    """One thing that was looked at."""

    good: bool
    words: str


def check(
    primary: RedisAddress, replicas: int, *, within: float = 120.0, slots: Sequence[Span] = EVERY
) -> tuple[Said, ...]:
    """Look at a primary that is to have so many replicas; wait until all is well, at most `within` seconds.

    `slots`: of a cluster, those that it serves. Raises PhoenixError where the primary itself cannot be asked.
    """
    give_up = time.monotonic() + within
    while True:
        said = tuple(_look(primary, replicas, slots))
        if all(one.good for one in said) or time.monotonic() > give_up:
            return said
        time.sleep(_LOOK)


def _look(address: RedisAddress, expected: int, slots: Sequence[Span]) -> Iterator[Said]:
    primary = facts_of(address)
    yield Said(primary.role == "master", f"{address} is {_role(primary)}")
    online = [one for one in primary.replicas if one.state == "online" and one.lag <= _MOST_LAG]
    yield Said(
        len(online) >= expected,
        f"{len(online)} of {expected} replicas are online and heard within {_MOST_LAG} s",
    )
    if len(online) < expected:
        return
    key = _key(slots)
    try:
        with asking(address) as client:
            client.set(key, "1", px=_SENTINEL_LIFE)
            have = int(client.wait(expected, _WAIT)) if expected else 0
        yield Said(have >= expected, f"a key was written, and {have} of {expected} replicas confirmed it")
        for one in online:
            yield from _replica(address.at(one.host, one.port), primary, key)
    finally:
        _forget(address, key)


def _key(slots: Sequence[Span]) -> str:
    """A name that nobody has, in one of the slots."""
    while True:
        key = f"phoenix:restore:{secrets.token_hex(8)}"
        if any(first <= slot_of(key.encode()) <= last for first, last in slots):
            return key


def _replica(address: RedisAddress, primary: RedisFacts, key: str) -> Iterator[Said]:
    try:
        found = facts_of(address)
        with asking(address) as client:
            if found.mode == "cluster":
                client.readonly()  # else it sends us to its primary
            there = client.get(key) is not None
    except PhoenixError as error:
        yield Said(
            True, f"replica {address} cannot be asked from here ({error.message}); its primary hears it"
        )
        return
    same = found.replication_id == primary.replication_id
    yield Said(
        found.link_up and same and there,
        f"replica {address}: link {'up' if found.link_up else 'down'}, "
        f"{'the same' if same else 'another'} replication id, the key {'is' if there else 'is not'} there",
    )
    differing = [
        f"database {number}: {found.databases.get(number, (0, 0))[0]:,} of {keys:,} keys"
        for number, (keys, expires) in primary.databases.items()
        if abs(found.databases.get(number, (0, 0))[0] - keys) > expires + 1
    ]
    yield Said(
        not differing, f"replica {address}: {'; '.join(differing) or 'as many keys in every database'}"
    )


def _forget(address: RedisAddress, key: str) -> None:
    try:
        with asking(address) as client:
            client.delete(key)
    except PhoenixError:
        return  # it goes by itself


def _role(found: RedisFacts) -> str:
    return "a primary and takes writes" if found.role == "master" else "a replica"
