"""Rehearse the recovery of a folder: into a scratch place, name by name, with the application's checks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from phoenix_orch.kernel.errors import Terminal
from phoenix_orch.recovery.consistency import checked, faults
from phoenix_orch.recovery.consistency_spec import FileCheck
from phoenix_orch.recovery.drill_copy import Fetched
from phoenix_orch.recovery.drill_report import Phase
from phoenix_orch.recovery.drill_steps import Ledger
from phoenix_orch.recovery.errors import Corrupted
from phoenix_orch.recovery.restore.files_restore import restore


def rehearsed(ledger: Ledger, copy: Fetched, into: Path, checks: Sequence[FileCheck], now: datetime) -> None:
    """Into `into`, which is made. Raises StepFailedError."""
    with ledger.step(Phase.VOLUME, copy.subject) as note:
        root = copy.manifest.content.get("merkleRoot")
        if not isinstance(root, str):
            raise Corrupted("the manifest does not say which files were copied", remedy="use another backup")
        done = restore(
            lambda: copy.opened(note.moved, ledger.stop),
            into,
            root,
            now=now,
            checks=checks,
            stop=ledger.stop,
        )
        note.detail = f"{done.names:,} names as they were copied, {len(done.findings)} checks passed"


def healthy(folder: Path, checks: Sequence[FileCheck]) -> str:
    """In a line. Raises Terminal where the checks do not hold for what was recovered."""
    findings = checked(folder, checks)
    if wrong := faults(findings):
        raise Terminal(f"the recovered files do not hold: {wrong}")
    return f"holds in {len(findings)} checks"
