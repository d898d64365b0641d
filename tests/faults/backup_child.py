"""A process that publishes or prunes and kills itself at a step: `python -m tests.faults.backup_child`."""

from __future__ import annotations

import os
import signal
import sys
from datetime import datetime
from pathlib import Path

from tests.backup_stage import SIGNER, stage

from phoenix_orch.recovery import prune
from phoenix_orch.recovery.publish import Told
from phoenix_orch.recovery.retention import Limits, Policy
from phoenix_orch.testing.fake_backup import FakeBackupSource

CONTENT = b"new" * 1_000_000


def die_at(wanted: str, count: int = 1) -> object:
    left = count

    def told(step: str) -> None:
        nonlocal left
        if step == wanted:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return told


def main(act: str, folder: Path, step: str, at: str) -> None:
    here = stage(folder)
    if act == "publish":
        slot = datetime.fromisoformat(at)
        here.publish(FakeBackupSource(CONTENT), slot=slot, told=Told(step=die_at(step)))
        return
    now = datetime.fromisoformat(at)
    view = here.view()
    planned = prune.plan(view, Policy(0, 0, 0, 1), Limits(), now, now)
    prune.Pruner(here.store, SIGNER, lambda: now, "test", told=die_at(step)).run(view, planned)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4])
