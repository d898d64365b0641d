"""Whether primaries can take copies key by key, found before anything is changed. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from phoenix_orch.recovery.redis_facts import RedisFacts
from phoenix_orch.recovery.restore.copies import Taken
from phoenix_orch.recovery.restore.plan import copy_of
from phoenix_orch.recovery.restore.rdb_versions import unreadable
from phoenix_orch.recovery.restore.redis_preflight import ROOM, Finding, Weight
from phoenix_orch.recovery.restore.slot_owners import Owner
from phoenix_orch.recovery.sources.redis_shards import SLOTS

_TOGETHER = timedelta(minutes=1)
"""Copies of one cluster are taken one after the other."""


@dataclass(frozen=True, slots=True)
class Node:
    """What is known of a primary that is to take keys."""

    owner: Owner
    facts: RedisFacts
    databases: int = 1
    """That it has; a cluster has one unless it is told otherwise."""
    moving: int = 0
    """Slots that are on their way to or from it."""


def preflight(taken: Sequence[Taken], nodes: Sequence[Node]) -> tuple[Finding, ...]:
    return tuple(_findings(taken, nodes))


def _findings(taken: Sequence[Taken], nodes: Sequence[Node]) -> Iterator[Finding]:
    yield _formats(taken, nodes)
    yield _modules(taken, nodes)
    yield _roles(nodes)
    yield _moving(nodes)
    yield _databases(taken, nodes)
    yield _memory(taken, nodes)
    yield _moments(taken)
    keys = sum(one.facts.keys for one in nodes)
    if keys:
        yield Finding(
            "data",
            Weight.WARNS,
            f"the target holds {keys:,} keys, and those of the restored slots are replaced",
            "a safety copy of each primary is taken first",
        )
    yield Finding(
        "writers",
        Weight.WARNS,
        "the target goes on serving: what is written meanwhile may be lost, and readers see old and new keys",
        "stop the writers until the restore has ended",
    )


def _formats(taken: Sequence[Taken], nodes: Sequence[Node]) -> Finding:
    for one in taken:
        copy = copy_of(one.backup.manifest)
        for node in nodes:
            why = unreadable(node.facts.server, node.facts.version, copy.format) if copy.format else ""
            if why:
                return Finding(
                    "format",
                    Weight.BLOCKS,
                    f"{node.owner.address}: {why}",
                    "restore into servers at least as new, and of the same kind",
                )
    return Finding("format", Weight.OK, f"{len(nodes)} primaries read the copies")


def _modules(taken: Sequence[Taken], nodes: Sequence[Node]) -> Finding:
    needed = {name for one in taken for name in copy_of(one.backup.manifest).modules}
    missing = sorted({name for node in nodes for name in needed - set(node.facts.modules)})
    if missing:
        return Finding(
            "modules",
            Weight.BLOCKS,
            f"the copies may hold data of modules that a primary lacks: {', '.join(missing)}",
            f"load {', '.join(missing)} on every primary first",
        )
    return Finding("modules", Weight.OK, "they have every module that the sources had")


def _roles(nodes: Sequence[Node]) -> Finding:
    for node in nodes:
        if node.facts.role != "master" or node.facts.loading:
            what = "is loading its data" if node.facts.loading else "is a replica"
            return Finding("role", Weight.BLOCKS, f"{node.owner.address} {what}", "wait, and plan anew")
    return Finding("role", Weight.OK, f"{len(nodes)} primaries serve every slot")


def _moving(nodes: Sequence[Node]) -> Finding:
    if count := sum(node.moving for node in nodes):
        return Finding(
            "slots",
            Weight.BLOCKS,
            f"{count} slots of the cluster are being moved",
            "wait until that has ended: redis-cli --cluster check",
        )
    return Finding("slots", Weight.OK, "no slot is being moved")


def _databases(taken: Sequence[Taken], nodes: Sequence[Node]) -> Finding:
    found = [one.backup.manifest.content.get("databases") for one in taken]
    highest = max((int(name) for one in found if isinstance(one, dict) for name in one), default=0)
    least = min(node.databases for node in nodes)
    if highest >= least:
        return Finding(
            "databases",
            Weight.BLOCKS,
            f"the copy has a database {highest}, and the target has {least}",
            "restore the databases you need one by one into servers alone: phoenix restore keys --database",
        )
    return Finding("databases", Weight.OK, "the target has the databases of the copies")


def _memory(taken: Sequence[Taken], nodes: Sequence[Node]) -> Finding:
    sizes = [copy_of(one.backup.manifest).memory for one in taken]
    if not all(sizes):
        return Finding("memory", Weight.WARNS, "a manifest does not say how much memory the data takes")
    for node in nodes:
        share = sum(last - first + 1 for first, last in node.owner.slots) / SLOTS
        new, most = int(sum(sizes) * share * ROOM), node.facts.max_memory or node.facts.system_memory
        if most and new > most:
            return Finding(
                "memory",
                Weight.BLOCKS,
                f"the share of {node.owner.address} takes some {new:,} bytes, and it may use {most:,}",
                f"type there: CONFIG SET maxmemory {new + new // 10}, or give it more memory",
            )
    return Finding("memory", Weight.OK, f"some {int(sum(sizes) * ROOM):,} bytes are needed in all")


def _moments(taken: Sequence[Taken]) -> Finding:
    points = [one.backup.manifest.time.consistency_point for one in taken]
    apart = max(points) - min(points)
    if apart > _TOGETHER:
        return Finding(
            "moments",
            Weight.WARNS,
            f"the copies of the shards are of moments {apart.total_seconds():.0f} s apart",
            "each is whole in itself; name another moment with --as-of where they are nearer",
        )
    return Finding("moments", Weight.OK, f"the copies are of moments {apart.total_seconds():.0f} s apart")
