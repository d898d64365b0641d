"""Whether a server can take a copy, found before anything is changed. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from phoenix_orch.recovery.redis_facts import RedisFacts
from phoenix_orch.recovery.restore.rdb_versions import unreadable

TWICE = 2
"""With `repl-diskless-load swapdb` old and new data are in memory at the same time."""
ROOM = 1.1
"""Of the memory that the data took where it was copied."""
_SHOW = (
    "plan with --listen-cert FILE --listen-key FILE: of an authority in its tls-ca-cert-file, its own "
    "certificate will do; or, for the time of the restore, type there: CONFIG SET tls-replication no"
)
SWAPDB = "swapdb"
FLUSHES = "flush-before-load"


class Weight(StrEnum):
    OK = "ok"
    WARNS = "warns"
    """A person should know it before they agree."""
    BLOCKS = "blocks"
    """Nothing is begun."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    check: str
    weight: Weight
    found: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Copy:
    """What is known of the copy from its manifest; 0 and empty where it does not say."""

    format: str = ""
    version: str = ""
    keys: int | None = None
    memory: int = 0
    """Bytes that the data took in the server it was copied from."""
    modules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """What is known of the server that is to take it."""

    facts: RedisFacts
    may_follow: bool = True
    """REPLICAOF exists there and this user may call it."""
    diskless_load: str = ""
    """`repl-diskless-load`; empty where the settings cannot be read."""
    tls_replication: bool = False
    """It takes data over TLS alone."""
    certificate: str = ""
    """File with the one that it would be shown; empty: there is none."""
    distrust: str | None = None
    """Why it would not trust that, by the authority that it is trusted by itself; empty: it would; None: no
    authority is known here."""
    sentinels: int = 0
    """Sentinels that watch it."""
    stop_writes: int = 0
    """`min-replicas-to-write`."""


def preflight(copy: Copy, target: Target) -> tuple[Finding, ...]:
    """All that was looked at, in the order in which people think of it."""
    return tuple(_findings(copy, target))


def blocked(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    return tuple(one for one in findings if one.weight is Weight.BLOCKS)


def _findings(copy: Copy, target: Target) -> Iterator[Finding]:
    facts = target.facts
    yield _version(copy, facts)
    yield _modules(copy, facts)
    yield _mode(target)
    yield from _secured(target)
    yield _role(facts)
    yield _memory(copy, target)
    yield _data(facts)
    yield _loading(target)
    yield _replicas(target)
    yield _watched(target)
    yield _append_only(facts)


def _version(copy: Copy, facts: RedisFacts) -> Finding:
    if not copy.format:
        return Finding("format", Weight.WARNS, "the manifest does not say the format of the copy")
    if why := unreadable(facts.server, facts.version, copy.format):
        return Finding(
            "format", Weight.BLOCKS, why, f"restore into {_writer(copy)}, or newer of the same kind"
        )
    return Finding("format", Weight.OK, f"{facts.server} {facts.version} reads {copy.format}")


def _writer(copy: Copy) -> str:
    kind = "Valkey" if copy.format.startswith("VALKEY") else "the server"
    return f"{kind} {copy.version}".strip()


def _modules(copy: Copy, facts: RedisFacts) -> Finding:
    missing = sorted(set(copy.modules) - set(facts.modules))
    if missing:
        names = ", ".join(missing)
        return Finding(
            "modules",
            Weight.BLOCKS,
            f"the copy may hold data of modules that the target lacks: {names}",
            f"load {names} there first",
        )
    return Finding("modules", Weight.OK, "it has every module that the source had")


def _mode(target: Target) -> Finding:
    mode = target.facts.mode
    if mode != "standalone":
        return Finding(
            "mode",
            Weight.BLOCKS,
            f"the target runs as {mode}, and such a server follows nobody",
            "restore into a server that stands alone, and import from there (redis-cli --cluster import)"
            if mode == "cluster"
            else "name the Redis server, not the Sentinel",
        )
    if not target.may_follow:
        return Finding(
            "rights",
            Weight.BLOCKS,
            "REPLICAOF is not allowed there: a managed service, a renamed command, or the user lacks it",
            "use a user with +replicaof, or restore keys one by one: phoenix restore keys '*'",
        )
    return Finding("mode", Weight.OK, "it stands alone and may follow us")


def _secured(target: Target) -> Iterator[Finding]:
    """Only where it matters: most servers take data in clear, as they give it."""
    if not target.tls_replication:
        return
    takes = "the target takes data over TLS alone (tls-replication yes)"
    if not target.certificate:
        yield Finding("tls", Weight.BLOCKS, f"{takes}, and there is no certificate to show it", _SHOW)
    elif target.distrust:
        yield Finding(
            "tls",
            Weight.BLOCKS,
            f"{takes}, and would not trust {target.certificate}: {target.distrust}",
            f"{_SHOW}; where it trusts another authority than --tls-ca, put that into this file, too",
        )
    elif target.distrust is None:
        yield Finding(
            "tls",
            Weight.WARNS,
            f"{takes}; whether it trusts {target.certificate} is not known before it comes: if not, it stays "
            "as it is",
            "--tls-ca FILE looks beforehand",
        )
    else:
        yield Finding("tls", Weight.OK, f"{takes}, and trusts {target.certificate} as --tls-ca does")


def _role(facts: RedisFacts) -> Finding:
    if facts.role == "slave":
        place = f"{facts.primary[0]}:{facts.primary[1]}" if facts.primary else "another server"
        return Finding(
            "role",
            Weight.BLOCKS,
            f"the target is a replica of {place} and would lose what is restored to it",
            f"restore into {place}; its replicas follow",
        )
    if facts.loading:
        return Finding("role", Weight.BLOCKS, "the target is loading its data", "wait until it has done so")
    return Finding("role", Weight.OK, "it is a primary")


def _memory(copy: Copy, target: Target) -> Finding:
    facts = target.facts
    if not copy.memory:
        return Finding("memory", Weight.WARNS, "the manifest does not say how much memory the data takes")
    new = int(copy.memory * ROOM)
    if facts.max_memory and new > facts.max_memory:
        loses = facts.eviction not in ("", "noeviction")
        return Finding(
            "memory",
            Weight.BLOCKS,
            f"the data takes some {new:,} bytes and maxmemory is {facts.max_memory:,}"
            + (f"; {facts.eviction} would throw keys away" if loses else ""),
            f"type there: CONFIG SET maxmemory {new + new // 10}",
        )
    both = new + (facts.used_memory if target.diskless_load == SWAPDB else 0)
    have = facts.system_memory
    if have and both > have:
        return Finding(
            "memory",
            Weight.BLOCKS,
            f"{both:,} bytes are needed and the machine has {have:,}"
            + (": swapdb holds old and new data at once" if both > new else ""),
            "give it more memory"
            + (", or type there: CONFIG SET repl-diskless-load disabled" if both > new else ""),
        )
    return Finding("memory", Weight.OK, f"some {both:,} bytes are needed")


def _data(facts: RedisFacts) -> Finding:
    if facts.keys == 0:
        return Finding("data", Weight.OK, "the target is empty")
    return Finding(
        "data",
        Weight.WARNS,
        f"the target holds {facts.keys:,} keys, and all of them are replaced",
        "a safety copy is taken first",
    )


def _loading(target: Target) -> Finding:
    if target.diskless_load == FLUSHES and target.facts.keys:
        return Finding(
            "old data",
            Weight.BLOCKS,
            "the target throws its data away before new data is whole (repl-diskless-load flush-before-load)",
            "type there: CONFIG SET repl-diskless-load disabled",
        )
    how = target.diskless_load or "unknown"
    return Finding(
        "old data", Weight.OK, f"old data stays until new data is whole (repl-diskless-load {how})"
    )


def _replicas(target: Target) -> Finding:
    count = len(target.facts.replicas)
    if not count:
        return Finding("replicas", Weight.OK, "it has no replicas")
    waits = f"; it takes no writes until {target.stop_writes} are back" if target.stop_writes else ""
    return Finding(
        "replicas", Weight.WARNS, f"its {count} replicas load all data anew after the restore{waits}"
    )


def _watched(target: Target) -> Finding:
    if not target.sentinels:
        return Finding("sentinel", Weight.OK, "no Sentinel watches it")
    return Finding(
        "sentinel",
        Weight.BLOCKS,
        f"{target.sentinels} Sentinels watch it, and would fail over when it follows us",
        "type on each Sentinel: SENTINEL REMOVE NAME; and after the restore: SENTINEL MONITOR NAME HOST PORT "
        "QUORUM",
    )


def _append_only(facts: RedisFacts) -> Finding:
    if not facts.append_only:
        return Finding("append-only file", Weight.OK, "it has none; the next save writes the new data")
    if facts.rewriting or facts.saving:
        return Finding(
            "append-only file",
            Weight.WARNS,
            "a child of the target saves or rewrites; it is ended when the new data is loaded",
        )
    return Finding("append-only file", Weight.OK, "the server rewrites it from the new data by itself")
