"""Whose backups these are: those of this machine, or of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from phoenix_orch.recovery.backup_source import BackupSource
from phoenix_orch.recovery.layout import Scope
from phoenix_orch.recovery.outside import Outside
from phoenix_orch.recovery.sources.config_items import Items
from phoenix_orch.recovery.sources.copied import CopyOrder
from phoenix_orch.recovery.sources.snapshot_plan import Taken
from phoenix_orch.recovery.verifying import Structural

if TYPE_CHECKING:
    from phoenix_orch.recovery.drill_config import Accept


class Volumes(Protocol):
    """Volumes that are no folders of this machine. All but `components` asks the cluster, and blocks."""

    @property
    def components(self) -> Sequence[str]:
        """As they are configured: `volume/shop`."""
        ...

    def members(self, component: str) -> Sequence[str]:
        """Of one that stands for several, `volume/shop.data-0` and so on; else itself. Raises NotFound where
        there is none now."""
        ...

    def source(self, component: str, notes: Path) -> BackupSource:
        """Of a member. Raises NotFound. `notes`: of applications at rest."""
        ...

    def structural(self) -> Structural: ...

    def rehearse(self, component: str, one: Taken, stop: Callable[[], bool]) -> str:
        """See `drill_snapshot.Rehearse`."""
        ...

    @property
    def copies(self) -> Sequence[str]:
        """Those whose snapshots are copied away from the cluster: `copy/shop`."""
        ...

    def copy(self, order: CopyOrder, one: Taken, stop: Callable[[], bool]) -> None:
        """Publish what the snapshot holds, by a Job. Raises PhoenixError."""
        ...

    @property
    def outside(self) -> Outside:
        """Where the data of their backups lies."""
        ...


@dataclass(frozen=True, slots=True)
class Home:
    """Where backups are in the storage, and where what is backed up comes from."""

    cluster: str = "local"
    namespace: str = "default"
    signing_key: Path | None = None
    """A file that has to be there; None: that of the data directory, made when there is none."""
    configuration: Items | None = None
    """Read by several replicas in turn; None: the files of this machine."""
    volumes: Volumes | None = None
    """Claims of a cluster; None: folders of this machine."""
    accept: Accept | None = None
    """Asks the cluster whether it would take a configuration; None: there is no cluster."""

    def scope(self, component: str) -> Scope:
        return Scope(self.cluster, self.namespace, component)


HERE = Home()
"""This machine."""
