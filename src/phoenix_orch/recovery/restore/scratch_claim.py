"""Restore a snapshot into a scratch claim, which a Job reads, and which goes again: a rehearsal does that.

What one that died has left is removed by the next one, by its label.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from phoenix_orch.kernel.errors import NotFound, PhoenixError, Terminal
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.resources import Object, Resource
from phoenix_orch.recovery.consistency_spec import FileCheck
from phoenix_orch.recovery.restore.state_job import JOBS, LOOK, StateJobs
from phoenix_orch.recovery.restore.volume_manifest import job_of
from phoenix_orch.recovery.sources.claim_spec import StateCheck
from phoenix_orch.recovery.sources.snapshot_plan import CLAIMS, LONGEST, Taken, claim_from, short
from phoenix_orch.recovery.sources.snapshots import SnapshotKeeper

STORAGE_CLASSES = Resource("storage.k8s.io", "v1", "storageclasses", "StorageClass", namespaced=False)
SCRATCH = "phoenix-orch.io/drill-scratch"
"""Label of what a drill makes: a hash of whose backups it rehearses."""


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """How a claim is rehearsed."""

    check: StateCheck
    checks: Sequence[FileCheck]
    scope: str
    """Hash of whose backups these are."""
    storage_class: str = ""
    """Of the scratch claim; empty: that of the claim."""


@dataclass(frozen=True, slots=True)
class Scratch:
    """A claim for the length of a Job."""

    one: Taken
    namespace: str
    """Where both are."""
    suffix: str
    """By which they are named, after `purpose`."""
    purpose: str
    """`drill`, `copy`."""
    labels: Mapping[str, str]
    """By which alone they are found, should this process die."""
    job: Callable[[str], Object]
    """Made for the claim of this name."""
    storage_class: str = ""
    """Empty: that of the claim that was copied."""


class ScratchClaims:
    """With the rights of `k8s/backup/volumes`."""

    def __init__(
        self, client: KubeClient, *, look: float = LOOK, stop: Callable[[], bool] = lambda: False
    ) -> None:
        self._client = client
        self._look = look
        self._stop = stop

    async def rehearse(self, one: Taken, suffix: str, how: Rehearsed) -> str:
        """What was seen, in a line. Nothing of it is left. Raises Terminal, Corrupted, Stopped."""
        begun = time.monotonic()
        scratch = Scratch(
            one,
            one.namespace,
            suffix,
            "drill",
            {SCRATCH: how.scope},
            lambda claim: job_of(claim, one.namespace, suffix, how.check, how.checks),
            how.storage_class,
        )
        said = await self.through(scratch)
        return f"restored into a claim and looked at in {time.monotonic() - begun:.0f} s: {said}"

    async def through(self, scratch: Scratch) -> str:
        """What the Job has said at its end. Nothing of it is left. Raises Terminal where it failed or cannot
        be begun, Stopped."""
        one, here, suffix = scratch.one, scratch.namespace, scratch.suffix
        await self._deletes(scratch.storage_class or one.storage_class)
        await self._left(scratch)
        keeper = SnapshotKeeper(self._client, look=self._look)
        name = short(f"{one.claim}-{scratch.purpose}", LONGEST - len(suffix) - 1) + f"-{suffix}"
        try:
            snapshot = await keeper.found(one, here, suffix)
            claim = claim_from(one, snapshot, name, here, suffix)
            claim["metadata"]["labels"] = dict(scratch.labels)
            if scratch.storage_class:
                claim["spec"]["storageClassName"] = scratch.storage_class
            await self._client.create(CLAIMS, claim, here)
            body = scratch.job(name)
            body["metadata"] |= {"name": f"{scratch.purpose}-{suffix}", "labels": dict(scratch.labels)}
            return await StateJobs(self._client, here, look=self._look, stop=self._stop).passed(body)
        finally:
            with contextlib.suppress(PhoenixError):  # the next one removes it, and this one says more
                await self._left(scratch)
                await keeper.given_back(one, here, suffix)

    async def _deletes(self, storage_class: str) -> None:
        """A scratch volume is to go with its claim. Raises Terminal."""
        remedy = "name one that deletes, as drillClass of the claim in backup.claims"
        if not storage_class:
            raise Terminal("the claim has no StorageClass that could make a scratch volume", remedy=remedy)
        found = await self._client.get(STORAGE_CLASSES, storage_class)
        if found.get("reclaimPolicy", "Delete") != "Delete":
            raise Terminal(
                f"the StorageClass {storage_class} keeps what is given back: each time it would leave one",
                remedy=remedy,
            )

    async def _left(self, scratch: Scratch) -> None:
        """Jobs first: their pods hold the claims."""
        labels = ",".join(f"{name}={value}" for name, value in scratch.labels.items())
        for kind in (JOBS, CLAIMS):
            for found in (await self._client.list(kind, scratch.namespace, labels=labels)).items:
                metadata = found["metadata"]
                with contextlib.suppress(NotFound):
                    await self._client.delete(kind, metadata["name"], scratch.namespace, uid=metadata["uid"])
