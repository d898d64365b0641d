"""What phoenix.yaml says of a folder that is backed up."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Self

from phoenix_orch.kernel.arguments import Passable
from phoenix_orch.recovery.consistency_spec import FileCheck
from phoenix_orch.recovery.hook_spec import Quiesce
from phoenix_orch.rollout.spec import Model


class Copy(StrEnum):
    """How the files are kept from changing while they are read."""

    AUTO = "auto"
    """The first of the others that works."""
    SNAPSHOT = "snapshot"
    """A snapshot of the btrfs subvolume that the folder is: all files at one moment."""
    REFLINK = "reflink"
    """A copy that shares its blocks (xfs, btrfs): each file at one moment."""
    DIRECT = "direct"
    """No copy: the files as they are read. The application is at rest until the last one."""


class VolumeSpec(Model):
    """One folder with the state of an application."""

    path: Passable
    """The folder; relative to the file that names it."""
    copy_by: Copy = Copy.AUTO
    """How the files are kept from changing while they are read."""
    quiesce: Quiesce = Quiesce()
    """How the application is brought to rest, and woken."""
    checks: tuple[FileCheck, ...] = ()
    """What has to hold for the files that are copied, and after they were restored."""

    def placed(self, base: Path) -> Self:
        """With a path that is absolute; a relative one is taken from `base`."""
        return self.model_copy(update={"path": str(base / Path(self.path).expanduser())})
