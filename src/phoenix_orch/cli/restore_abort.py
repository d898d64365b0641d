"""`phoenix restore abort`: of Redis by the id of the restore, of a claim by its name."""

from __future__ import annotations

from typing import Annotated

import typer

from phoenix_orch.cli import restore_claim, restore_redis
from phoenix_orch.cli.cluster_options import Context, Kubeconfig
from phoenix_orch.cli.options import UNSET, DataDir, DryRun, Output, OutputOption, Reason
from phoenix_orch.cli.restore_volume import Keep, Namespace, Within
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.orchestrator.cluster.access import Access


def abort(  # noqa: PLR0917 - one parameter for each option
    name: Annotated[
        str,
        typer.Argument(
            metavar="[ID]", help="Of the restore, or its beginning; with --claim: of the backup, whole."
        ),
    ] = "",
    claim: Annotated[str, typer.Option("--claim", metavar="NAME", help="The claim of a cluster.")] = "",
    within: Within = "5m",
    keep: Keep = "7d",
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    reason: Reason = "",
    dry_run: DryRun = False,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> None:
    """End a restore that died. Redis: the server takes writes again, with the data that it has.

    A claim: it is as it was, and so is what uses it. Once its old volume has gone from it that is refused:
    then the restore is ended by its own command, and the way back is told.
    """
    if claim and dry_run:
        raise Invalid(
            "--dry-run is for a restore of Redis",
            remedy="for a claim `phoenix restore plan volume` tells how far its restore has come",
        )
    if claim:
        access = Access(namespace, kubeconfig, context)
        restore_claim.abort(claim, name, access, within, keep, reason, output, data_dir)
        return
    if not name:
        raise Invalid(
            "say which restore",
            remedy="phoenix restore status lists those of Redis; of a cluster: --claim NAME -n NAMESPACE",
        )
    restore_redis.abort(name, reason, output, data_dir, dry_run=dry_run)
