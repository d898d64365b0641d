"""The files of a volume that a snapshot was restored into, as one archive: a copy away from the cluster.

What is copied was decided by the orchestrator; a Job without a token of the cluster is told by a CopyOrder.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Annotated

from pydantic import Field

from phoenix_orch.kernel.errors import Terminal
from phoenix_orch.recovery.backup_source import Capture, Facts
from phoenix_orch.recovery.consistency_spec import FileCheck
from phoenix_orch.recovery.manifest import Trigger
from phoenix_orch.recovery.sources.files import FilesSource
from phoenix_orch.recovery.sources.volume_spec import Copy, VolumeSpec
from phoenix_orch.rollout.spec import Model

KIND = "copy"
"""Of the component that a copy is: `copy/shop` of `volume/shop`."""


class CopyOrder(Model):
    """What is copied, and for whom."""

    file: str = ""
    """The phoenix.yaml of the orchestrator, as its pod has it."""
    storage: str
    """The mark of the storage that the orchestrator has (`storage_mark.py`)."""
    home: str
    """The namespace of Phoenix, to which the backup belongs."""
    component: str
    namespace: str
    claim: str
    """Whose volume it was."""
    snapshot: str
    backup: str
    """Id of the backup that the snapshot is."""
    moment: datetime
    """Whose state it holds."""
    trigger: Trigger
    slot: datetime | None = None
    checks: Annotated[tuple[FileCheck, ...], Field(max_length=50)] = ()

    def origin(self) -> dict[str, str]:
        """As the manifest of the copy tells it."""
        return {
            "namespace": self.namespace,
            "claim": self.claim,
            "snapshot": self.snapshot,
            "backup": self.backup,
            "copiedBy": "snapshot",
        }


class CopiedSource:
    """They are as old as the snapshot. `notes`: see `FilesSource`."""

    def __init__(self, order: CopyOrder, folder: Path, notes: Path) -> None:
        self.component = order.component
        self._order = order
        spec = VolumeSpec(path=str(folder), copy_by=Copy.DIRECT, checks=order.checks)
        self._files = FilesSource(order.component, folder, spec, notes=notes, now=lambda: order.moment)

    @contextlib.contextmanager
    def capture(self) -> Iterator[Capture]:
        """Raises Terminal where a check fails or a file cannot be read."""
        with self._files.capture() as files:
            yield CopiedCapture(files, self._order)


class CopiedCapture:
    """One archive that is being read."""

    def __init__(self, files: Capture, order: CopyOrder) -> None:
        self._files = files
        self._order = order
        self.name = files.name
        self.estimate = files.estimate

    def read(self, size: int = -1, /) -> bytes:
        return self._files.read(size)

    def facts(self) -> Facts:
        """Raises Terminal where files changed meanwhile."""
        facts = self._files.facts()
        if facts.content.get("fuzzy"):
            raise Terminal(
                "files of the snapshot changed while they were read",
                remedy="see that nothing else uses the claim that was made of it, and copy again",
            )
        return replace(facts, source=self._order.origin())
