"""What a restore is going to do, as data: a person reads it, types its hash, and that is done. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime

from pydantic import AwareDatetime

from phoenix_orch.recovery.manifest import Manifest, Part
from phoenix_orch.recovery.redis_facts import RedisFacts
from phoenix_orch.recovery.restore.redis_preflight import Copy, Finding, Weight
from phoenix_orch.recovery.signing import canonical

HASH = 10
"""Characters of the hash that a person types."""
UNREHEARSED = "rehearsal"
"""The look that says why the copy is loaded nowhere beforehand; there is none where it is."""


class Look(Part):
    """One thing that was looked at before anything is changed."""

    check: str
    weight: Weight
    found: str
    remedy: str = ""


class PlannedCopy(Part):
    """One of several copies, and the slots that are taken from it."""

    backup: str
    component: str
    manifest: str
    slots: tuple[tuple[int, int], ...]
    consistency_point: AwareDatetime


class PlannedNode(Part):
    """A primary that takes keys."""

    address: str
    run_id: str
    slots: tuple[tuple[int, int], ...]
    keys: int
    replicas: int


class RestorePlan(Part):
    """A copy of a Redis, and the server that it goes into."""

    id: str
    made: AwareDatetime
    backup: str
    manifest: str
    """SHA-256 of the manifest's bytes."""
    component: str
    consistency_point: AwareDatetime
    raw_bytes: int
    raw_sha256: str
    keys: int | None = None
    """As the manifest tells them."""
    target: str
    """Its address."""
    run_id: str
    """Of the server that was found there: after a restart, or a failover, the plan does not hold."""
    target_keys: int
    replicas: int
    safety: bool
    """Whether the data of the target is copied first."""
    looks: tuple[Look, ...] = ()
    copies: tuple[PlannedCopy, ...] = ()
    """Restored key by key; empty: one copy is taken whole. The fields above are of all of them then."""
    nodes: tuple[PlannedNode, ...] = ()

    @property
    def hash(self) -> str:
        """The same for the same copy, the same server and the same way. Counts of keys may move."""
        told = self.model_dump(
            mode="json",
            by_alias=True,
            include={"backup", "manifest", "component", "raw_sha256", "target", "run_id", "safety"},
        )
        return hashlib.sha256(canonical(told)).hexdigest()[:HASH]

    @property
    def blocked(self) -> tuple[Look, ...]:
        return tuple(look for look in self.looks if look.weight is Weight.BLOCKS)

    @property
    def steps(self) -> tuple[str, ...]:
        """In words, in their order."""
        safety = (
            f"the {self.target_keys:,} keys of {self.target} are copied, stored and verified"
            if self.safety
            else f"the data of {self.target} is not copied first"
        )
        if self.copies:
            return (
                safety,
                f"{len(self.copies)} copies are opened, walked through and counted",
                f"what {self.target} holds and no copy does is removed, every key goes to its slot's primary",
                "every key is looked for, replicas awaited, a key is written and read back on each",
                "what fails on the way brings the safety copies back by itself"
                if self.safety
                else "what fails on the way leaves what is there",
            )
        return (
            safety,
            f"copy {self.backup} is walked through and counted: no server here loads it"
            if any(look.check == UNREHEARSED for look in self.looks)
            else f"copy {self.backup} is loaded into a server that is thrown away, and counted",
            f"{self.target} takes no writes from here on, and takes the copy whole or not at all",
            "its keys are counted, its replicas awaited, a key is written and read back on each",
            "what fails after the cut-over brings the safety copy back by itself"
            if self.safety
            else "what fails after the cut-over leaves what is there",
        )


def copy_of(manifest: Manifest) -> Copy:
    """What the preflight wants to know."""
    keys, memory = manifest.content.get("keys"), manifest.source.get("usedMemory")
    modules = manifest.engine.get("modules")
    return Copy(
        format=str(manifest.engine.get("format", "")),
        version=str(manifest.engine.get("version", "")),
        keys=keys if isinstance(keys, int) else None,
        memory=memory if isinstance(memory, int) else 0,
        modules=tuple(map(str, modules)) if isinstance(modules, list) else (),
    )


def planned(
    name: str,
    now: datetime,
    manifest: Manifest,
    sha256: str,
    *,
    target: str,
    found: RedisFacts,
    looks: Sequence[Finding],
    safety: bool,
) -> RestorePlan:
    """The plan. `safety`: wanted; an empty target has nothing to be kept."""
    return RestorePlan(
        id=name,
        made=now,
        backup=manifest.id,
        manifest=sha256,
        component=manifest.component,
        consistency_point=manifest.time.consistency_point,
        raw_bytes=manifest.stream.raw_bytes,
        raw_sha256=manifest.stream.raw_sha256,
        keys=copy_of(manifest).keys,
        target=target,
        run_id=found.run_id,
        target_keys=found.keys,
        replicas=len(found.replicas),
        safety=safety and found.keys > 0,
        looks=tuple(Look(check=f.check, weight=f.weight, found=f.found, remedy=f.remedy) for f in looks),
    )
