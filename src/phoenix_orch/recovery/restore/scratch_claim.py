"""Rehearse the restore of a claim: into a scratch claim, which a Job looks at, and which goes again.

What a rehearsal that died has left is removed by the next one, by its label.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from phoenix_orch.kernel.errors import NotFound, PhoenixError, Terminal
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.resources import Resource
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
        await self._deletes(how.storage_class or one.storage_class)
        await self._left(one.namespace, how.scope)
        keeper = SnapshotKeeper(self._client, look=self._look)
        name = short(f"{one.claim}-drill", LONGEST - len(suffix) - 1) + f"-{suffix}"
        labels = {SCRATCH: how.scope}
        begun = time.monotonic()
        try:
            snapshot = await keeper.found(one, one.namespace, suffix)
            claim = claim_from(one, snapshot, name, one.namespace, suffix)
            claim["metadata"]["labels"] = {**labels}
            if how.storage_class:
                claim["spec"]["storageClassName"] = how.storage_class
            await self._client.create(CLAIMS, claim, one.namespace)
            body = job_of(name, one.namespace, suffix, how.check, how.checks)
            body["metadata"] |= {"name": f"drill-{suffix}", "labels": dict(labels)}
            said = await StateJobs(self._client, one.namespace, look=self._look, stop=self._stop).passed(body)
            return f"restored into a claim and looked at in {time.monotonic() - begun:.0f} s: {said}"
        finally:
            with contextlib.suppress(PhoenixError):  # the next rehearsal removes it, and this one says more
                await self._left(one.namespace, how.scope)
                await keeper.given_back(one, one.namespace, suffix)

    async def _deletes(self, storage_class: str) -> None:
        """A scratch volume is to go with its claim. Raises Terminal."""
        remedy = "name one that deletes, as drillClass of the claim in backup.claims"
        if not storage_class:
            raise Terminal("the claim has no StorageClass that could make a scratch volume", remedy=remedy)
        found = await self._client.get(STORAGE_CLASSES, storage_class)
        if found.get("reclaimPolicy", "Delete") != "Delete":
            raise Terminal(
                f"the StorageClass {storage_class} keeps what is given back: each drill would leave a volume",
                remedy=remedy,
            )

    async def _left(self, namespace: str, scope: str) -> None:
        """Jobs first: their pods hold the claims."""
        for kind in (JOBS, CLAIMS):
            for found in (await self._client.list(kind, namespace, labels=f"{SCRATCH}={scope}")).items:
                metadata = found["metadata"]
                with contextlib.suppress(NotFound):
                    await self._client.delete(kind, metadata["name"], namespace, uid=metadata["uid"])
