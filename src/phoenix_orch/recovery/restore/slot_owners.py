"""Which slot of a cluster a key is in, and which primary serves it. A server alone serves them all."""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from dataclasses import dataclass

from phoenix_orch.kernel.errors import BadState
from phoenix_orch.recovery.redis_address import RedisAddress
from phoenix_orch.recovery.redis_asking import asking
from phoenix_orch.recovery.sources.redis_shards import SLOTS, shards_of, unserved

Span = tuple[int, int]
"""First and last slot, both within."""
EVERY: tuple[Span, ...] = ((0, SLOTS - 1),)


@dataclass(frozen=True, slots=True)
class Owner:
    """A server that takes writes for some slots."""

    address: RedisAddress
    slots: tuple[Span, ...] = EVERY
    cluster: bool = False


def slot_of(key: bytes) -> int:
    """Of what stands in the first braces, where something does; else of the whole key."""
    begin = key.find(b"{")
    if begin >= 0:
        end = key.find(b"}", begin + 1)
        if end > begin + 1:
            key = key[begin + 1 : end]
    return binascii.crc_hqx(key, 0) % SLOTS


def owners_of(address: RedisAddress) -> tuple[Owner, ...]:
    """The server itself, or every primary of the cluster that it is a node of.

    Raises BadState for a cluster that does not serve every slot, and what the server raises.
    """
    with asking(address) as client:
        shards = shards_of(client, address.host)
        alone = not client.info("cluster").get("cluster_enabled")
    if alone:
        return (Owner(address),)
    if gaps := unserved(shards):
        raise BadState(
            f"the cluster of {address} has no primary for the slots {told(gaps)}",
            remedy="mend the cluster first (`CLUSTER SHARDS` there)",
        )
    return tuple(Owner(address.at(*one.primary), one.slots, cluster=True) for one in shards)


def by_slot(owners: Sequence[Owner]) -> list[int]:
    """For each slot the place of its owner in `owners`."""
    found = [0] * SLOTS
    for place, one in enumerate(owners):
        for first, last in one.slots:
            found[first : last + 1] = [place] * (last - first + 1)
    return found


def told(spans: Sequence[Span]) -> str:
    """`0-5460, 9000`."""
    return ", ".join(f"{first}-{last}" if first != last else f"{first}" for first, last in spans)
