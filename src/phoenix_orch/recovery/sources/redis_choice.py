"""Which server gives the copy, and whether it may be asked to fork now. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from phoenix_orch.kernel.errors import PhoenixError, Retryable
from phoenix_orch.recovery.redis_facts import RedisFacts
from phoenix_orch.recovery.sources.redis_spec import Prefer

Place = tuple[str, int]
FIRST_FORK = 0.5
"""Share of the data that a fork may cost in memory where none has been measured."""
MARGIN = 1.5
"""Of the memory that the last fork cost; writes come and go."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The server that gives the copy."""

    place: Place | None
    """None: the one that is named."""
    facts: RedisFacts
    why: str
    behind: int | None = None
    """Bytes of the replication stream that it lacked when it was asked; None for a primary."""


@dataclass(frozen=True, slots=True)
class Unfit:
    """A replica that gives no copy now, and why."""

    place: Place
    why: str


def choose(
    named: RedisFacts,
    replicas: Mapping[Place, RedisFacts | PhoenixError],
    prefer: Prefer,
    max_lag: timedelta,
) -> Choice:
    """`replicas`: what those of the named server said when they were asked. Raises Retryable."""
    if prefer is Prefer.PRIMARY:
        return Choice(None, named, "it is named, and no replica is to be looked for")
    if named.role == "slave":
        if why := _unfit(named, max_lag):
            raise Retryable(f"the replica that is named gives no copy: {why}", remedy=_MEND)
        return Choice(None, named, "it is named, and it is a replica", behind=0)
    fit, unfit = _sorted(named, replicas, max_lag)
    if fit:
        behind, place, facts = min(fit, key=lambda one: (one[0], one[1]))
        return Choice(place, facts, f"of {len(replicas)} replicas it lacks least", behind=behind)
    reasons = "; ".join(f"{one.place[0]}:{one.place[1]} {one.why}" for one in unfit) or "there is none"
    if prefer is Prefer.ONLY_REPLICA:
        raise Retryable(f"no replica gives a copy: {reasons}", remedy=_MEND)
    return Choice(None, named, f"no replica gives a copy: {reasons}")


_MEND = "mend the replication (`INFO replication`), or let the primary give it (prefer: primary)"


def _sorted(
    named: RedisFacts, replicas: Mapping[Place, RedisFacts | PhoenixError], max_lag: timedelta
) -> tuple[Sequence[tuple[int, Place, RedisFacts]], Sequence[Unfit]]:
    fit, unfit = [], []
    for place, found in replicas.items():
        if isinstance(found, PhoenixError):
            unfit.append(Unfit(place, f"cannot be asked ({found.message})"))
        elif why := _foreign(named, found) or _unfit(found, max_lag):
            unfit.append(Unfit(place, why))
        else:
            fit.append((max(0, named.offset - found.offset), place, found))
    return fit, unfit


def _foreign(named: RedisFacts, found: RedisFacts) -> str:
    """What answers at the address of a replica may be another server: addresses are announced."""
    if found.role != "slave":
        return "is no replica"
    return "" if found.replication_id == named.replication_id else "follows another primary"


def _unfit(replica: RedisFacts, max_lag: timedelta) -> str:
    if replica.loading:
        return "is loading its data"
    if not replica.link_up:
        return "has no link to its primary"
    if replica.silence > max_lag.total_seconds():
        return f"has not heard its primary for {replica.silence} s"
    return ""


def fork_memory(facts: RedisFacts) -> int:
    """Bytes that a fork of this server may cost while the copy is taken."""
    if facts.last_cow:
        return int(facts.last_cow * MARGIN)
    return int(facts.used_memory * FIRST_FORK)


def obstacle(facts: RedisFacts, *, check_memory: bool) -> PhoenixError | None:
    """Why the server is not to be asked for a copy now; None when it may be."""
    if facts.loading:
        return Retryable("it is loading its data", remedy="wait until `INFO persistence` says loading:0")
    if facts.saving or facts.rewriting:
        what = "saves its data" if facts.saving else "rewrites its append-only file"
        return Retryable(
            f"a child of it {what}, and two forks at a time cost twice the memory",
            remedy="wait until `INFO persistence` shows none in progress",
        )
    free = facts.system_memory - facts.resident
    needed = fork_memory(facts)
    if check_memory and facts.system_memory and needed > free:
        return Retryable(
            f"a fork may cost {needed:,} bytes of memory and {max(0, free):,} are left beside it",
            remedy="give it more memory, take the copy from a replica elsewhere, or set checkMemory: false",
        )
    return None
