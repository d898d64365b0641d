"""What phoenix.yaml of a cluster says of PersistentVolumeClaims that are backed up as snapshots."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from phoenix_orch.kernel.arguments import Passable
from phoenix_orch.kernel.units import Duration
from phoenix_orch.recovery.consistency_spec import FileCheck
from phoenix_orch.recovery.hook_spec import Quiesce
from phoenix_orch.rollout.spec import Labels, Model, Name

OBJECT_PATTERN = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"
ObjectName = Annotated[str, StringConstraints(pattern=OBJECT_PATTERN)]
"""A DNS subdomain, as names of claims and classes are."""


class StateCheck(Model):
    """How a Job finds out whether a volume that was restored holds what it should."""

    image: Annotated[str, Field(min_length=1, max_length=500)] = "phoenix-orchestrator"
    """Of the Job, as its nodes pull it: that of Phoenix, or one of the application with a command."""
    folder: Annotated[str, Field(pattern=r"^([^/]+(/[^/]+)*)?$", max_length=1000)] = ""
    """Of the state, within the volume; left out: the volume."""
    command: tuple[Passable, ...] = ()
    """A program of the image with its words; the volume is at /state, and can only be read. Left out:
    `verify-state` looks whether each name can be reached, and at `checks`."""
    user: Annotated[int, Field(ge=1, le=2**31 - 1)] = 65532
    """As whom it runs, user and group: who may read the files."""
    timeout: Annotated[Duration, Field(ge=timedelta(seconds=1), le=timedelta(hours=6))] = timedelta(
        minutes=10
    )
    """From its creation until it has to have ended: the volume is provisioned in it, too."""


class ClaimSpec(Model):
    """One PersistentVolumeClaim, or all that have some labels."""

    claim: ObjectName | None = None
    """Its name."""
    labels: Labels = Field(default_factory=dict)
    """In its place: labels of several, which are looked up at each backup."""
    namespace: Name | None = None
    """Where they are; left out: the namespace of Phoenix. Each needs the Role of `k8s/backup/volumes`."""
    snapshot_class: ObjectName | None = None
    """The VolumeSnapshotClass; left out: the default one of the volume's driver, or its only one."""
    timeout: Annotated[Duration, Field(ge=timedelta(seconds=1), le=timedelta(hours=2))] = timedelta(
        minutes=10
    )
    """A snapshot that is not ready by then is given up, and the backup fails."""
    quiesce: Quiesce = Quiesce()
    """How the application is brought to rest, and woken: calls, since no program of a replica reaches it."""
    checks: Annotated[tuple[FileCheck, ...], Field(max_length=50)] = ()
    """What has to hold for the files, in drills and when they are restored."""
    verify: StateCheck = StateCheck()
    """The Job that looks at them then."""
    drill_class: ObjectName | None = None
    """StorageClass of the scratch claims of drills and copies; left out: that of the claim. It has to delete
    what is given back."""
    off_cluster: bool = False
    """The files of its newest snapshot are copied to the storage of backups, too: `copy/NAME`, every
    `schedule.offCluster`, by a Job beside Phoenix that runs as `verify.user`."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.claim is None) == (not self.labels):
            raise ValueError("write either claim, the name of one, or labels of several")
        hooks = (*self.quiesce.before, *self.quiesce.after)
        if any(one.command for one in hooks):
            raise ValueError("hooks of claims are calls: write url in place of command")
        if self.checks and self.verify.command:
            raise ValueError("verify.command takes the place of checks: write one of the two")
        return self

    @property
    def selector(self) -> str:
        """As kubectl takes it; empty where one is named."""
        return ",".join(f"{name}={value}" for name, value in sorted(self.labels.items()))
