"""The shards of a cluster: which slots, which primary. From `CLUSTER SLOTS`, which all versions know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis

SLOTS = 16384


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard. Numbered by its lowest slot, so that numbers stay while slots do."""

    slots: tuple[tuple[int, int], ...]
    """First and last, both within."""
    primary: tuple[str, int]


def shards_of(client: Redis, host: str) -> Sequence[Shard]:
    """The shards of the cluster that the server is a node of; empty where it is of none.

    `host`: by which it was reached; a node that does not know its own name leaves it out.
    """
    if client.info("cluster").get("cluster_enabled") != 1:
        return ()
    answer = client.execute_command("CLUSTER", "SLOTS")  # type: ignore[no-untyped-call]
    return read(answer, host)


def read(answer: Any, host: str) -> Sequence[Shard]:
    """`CLUSTER SLOTS` as it comes, or as redis-py turns it into a map by spans."""
    if isinstance(answer, Mapping):
        spans = [(first, last, told["primary"]) for (first, last), told in answer.items()]
    else:
        spans = [(row[0], row[1], row[2]) for row in answer]
    found: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for first, last, node in sorted(spans, key=lambda span: int(span[0])):
        place = (str(node[0] or host), int(node[1]))
        found.setdefault(place, []).append((int(first), int(last)))
    return [Shard(tuple(slots), place) for place, slots in found.items()]


def unserved(shards: Sequence[Shard]) -> Sequence[tuple[int, int]]:
    """Spans of slots that no shard serves: their keys are in no copy."""
    spans = sorted(span for shard in shards for span in shard.slots)
    gaps, after = [], 0
    for first, last in [*spans, (SLOTS, SLOTS)]:
        if first > after:
            gaps.append((after, first - 1))
        after = max(after, last + 1)
    return gaps
