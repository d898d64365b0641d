"""Rehearse the recovery of a claim from its snapshot, where the cluster can be reached."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Protocol

from phoenix_orch.kernel.errors import Terminal
from phoenix_orch.recovery.drill_copy import Fetched
from phoenix_orch.recovery.drill_report import Phase
from phoenix_orch.recovery.drill_steps import Ledger
from phoenix_orch.recovery.manifest import Manifest
from phoenix_orch.recovery.sources.snapshot_plan import ENGINE, Taken, read_back


class Rehearse(Protocol):
    """Restores a snapshot into a scratch claim, looks at it, and removes it. Blocks."""

    def __call__(self, component: str, one: Taken, stop: Callable[[], bool]) -> str:
        """What was seen, in a line. Raises PhoenixError."""
        ...


def is_snapshot(manifest: Manifest) -> bool:
    return manifest.engine.get("name") == ENGINE


def rehearsed(ledger: Ledger, copy: Fetched, rehearse: Rehearse | None) -> None:
    """Raises StepFailedError."""
    with ledger.step(Phase.VOLUME, copy.subject) as note:
        text = io.BytesIO()
        copy.open(text, note.moved, ledger.stop)
        one = read_back(text.getvalue())
        if rehearse is None:
            raise Terminal(
                f"the data of {copy.manifest.id} lies in a cluster, which is not reached from here",
                remedy="run the drill in the cluster: `phoenix drill run` in a pod of the orchestrator",
            )
        note.detail = rehearse(copy.manifest.component, one, ledger.stop)
