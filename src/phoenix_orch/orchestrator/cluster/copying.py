"""What the Job of a copy does: read the files of a volume that a snapshot was restored into, and publish them
as a backup like any other: sealed, read back, each file compared.

    python -m phoenix_orch.orchestrator.cluster.copying

It asks no cluster: file, keys and storage are those of the orchestrator's pod, and the order is in its
environment (`mover_job.ORDER`).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from phoenix_orch.kernel.errors import BadState, PhoenixError, Terminal
from phoenix_orch.orchestrator.backup_home import Home
from phoenix_orch.orchestrator.backups import Backups
from phoenix_orch.orchestrator.cluster.backing_up import state_layout
from phoenix_orch.orchestrator.cluster.file import load
from phoenix_orch.recovery.mover_job import MOUNT, ORDER
from phoenix_orch.recovery.sources.copied import CopiedSource, CopyOrder


def copied(order: CopyOrder, folder: Path) -> str:
    """Publish it; a line that says what. Raises PhoenixError."""
    spec = load(Path(order.file)).backup
    if spec is None:
        raise BadState(
            f"{order.file} has no section backup", remedy="the orchestrator has been given another file since"
        )
    home = Home(cluster=spec.cluster, namespace=order.home, signing_key=Path(spec.signing_key_file))
    layout = state_layout()
    backups = Backups(spec, layout, by=order.trigger.actor, home=home)
    mark = backups.marks.look()
    if mark is None or mark.id != order.storage:
        raise Terminal(
            f"{backups.marks.where} is another storage here than at the orchestrator",
            remedy="a folder has to be mounted in every pod of it, as a volume of the cluster",
        )
    source = CopiedSource(order, folder, layout.backup_notes)
    published = backups.publish(source, order.trigger, slot=order.slot)
    if published is None:
        return f"the copy of this slot of {order.component} is there already"
    manifest, look = published.manifest, published.look
    if not look.passed:
        raise Terminal(
            f"{manifest.id} is published and does not hold: {look.detail}",
            remedy="an earlier copy counts; look after the storage",
        )
    return f"published {manifest.id}: level {look.level}, {manifest.stream.raw_bytes} bytes"


def main() -> int:
    """Exit status 0 for a copy that is published and holds; the last line says why not."""
    try:
        said = copied(CopyOrder.model_validate_json(os.environ[ORDER]), Path(MOUNT))
    except PhoenixError as error:
        sys.stderr.write(f"{error.message}; {error.remedy}\n" if error.remedy else f"{error.message}\n")
        return error.exit_code
    sys.stdout.write(f"{said}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
