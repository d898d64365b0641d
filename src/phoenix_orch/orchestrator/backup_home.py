"""Whose backups these are: those of this machine, or of a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from phoenix_orch.recovery.layout import Scope
from phoenix_orch.recovery.sources.config_items import Items


@dataclass(frozen=True, slots=True)
class Home:
    """Where backups are in the storage, and where what is backed up comes from."""

    cluster: str = "local"
    namespace: str = "default"
    signing_key: Path | None = None
    """A file that has to be there; None: that of the data directory, made when there is none."""
    configuration: Items | None = None
    """Read by several replicas in turn; None: the files of this machine."""

    def scope(self, component: str) -> Scope:
        return Scope(self.cluster, self.namespace, component)


HERE = Home()
"""This machine."""
