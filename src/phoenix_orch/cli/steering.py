"""`phoenix rollout pause`, `resume`, `promote` and `retry`: one word to a release, here or in a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phoenix_orch.cli import cluster, reaching
from phoenix_orch.cli.cluster_options import or_in_cluster
from phoenix_orch.cli.later import Later
from phoenix_orch.cli.options import UNSET, DataDir, DryRun, OverrideFreeze, Reason, RolloutName
from phoenix_orch.cli.output import say
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.orchestrator.cluster.access import Access
from phoenix_orch.rollout.commands import typed
from phoenix_orch.rollout.status import CommandKind

if TYPE_CHECKING:
    from phoenix_orch.cli import obeying
else:
    obeying = Later("obeying")


@or_in_cluster()
def pause(
    name: RolloutName,
    reason: Reason = "",
    dry_run: DryRun = False,
    data_dir: DataDir = UNSET,
    *,
    there: Access | None = None,
) -> None:
    """Keep the weight where it is until `resume`."""
    _say(
        data_dir,
        name,
        CommandKind.PAUSE,
        reason,
        there=there,
        dry_run=dry_run,
        done="the weight stays where it is; a fault still takes it back",
    )


@or_in_cluster()
def resume(
    name: RolloutName,
    reason: Reason = "",
    dry_run: DryRun = False,
    data_dir: DataDir = UNSET,
    *,
    there: Access | None = None,
) -> None:
    """Go on after a pause; the time of the step begins anew."""
    _say(
        data_dir,
        name,
        CommandKind.RESUME,
        reason,
        there=there,
        dry_run=dry_run,
        done="the step begins anew",
    )


@or_in_cluster()
def promote(  # noqa: PLR0917 - one parameter for each option
    name: RolloutName,
    full: Annotated[
        bool, typer.Option("--full", help="Skip all steps that are left; the bake follows.")
    ] = False,
    end_bake: Annotated[
        bool, typer.Option("--end-bake", help="End the bake: the old version is not kept any longer.")
    ] = False,
    step: Annotated[
        int | None,
        typer.Option("--step", metavar="N", min=1, help="Only if it is at this step, as `status` counts."),
    ] = None,
    reason: Reason = "",
    dry_run: DryRun = False,
    data_dir: DataDir = UNSET,
    *,
    there: Access | None = None,
) -> None:
    """Skip what is left of this step, of all steps, or of the bake.

    Each is a word of its own, so that one that comes too late is refused and skips nothing else.
    """
    if end_bake and (full or step is not None):
        raise Invalid(
            "--end-bake stands alone: when a release bakes, its steps are over",
            remedy="give --end-bake, or --full, or neither",
        )
    if end_bake:
        kind, done = CommandKind.END_BAKE, "what is left of the bake is skipped"
    elif full:
        kind, done = CommandKind.PROMOTE_FULL, "all steps that are left are skipped; the bake follows"
    else:
        kind, done = CommandKind.PROMOTE, "what is left of this step is skipped"
    meant = step - 1 if step is not None else None
    _say(data_dir, name, kind, reason, there=there, dry_run=dry_run, done=done, step=meant)


@or_in_cluster()
def retry(
    name: RolloutName,
    reason: Reason = "",
    dry_run: DryRun = False,
    override_freeze: OverrideFreeze = False,
    data_dir: DataDir = UNSET,
    *,
    there: Access | None = None,
) -> None:
    """Try a rolled back revision again, from the first step.

    This is the only way to lift its latch.
    """
    if there is not None and override_freeze:
        with reaching.cluster(there) as client:
            client.override_freeze(name, reason=reason, dry_run=dry_run)
    _say(
        data_dir,
        name,
        CommandKind.RETRY,
        reason,
        there=there,
        dry_run=dry_run,
        done="it is tried again from the first step",
        override_freeze=override_freeze,
    )


def _say(
    data_dir: Path,
    name: str,
    kind: CommandKind,
    reason: str,
    *,
    there: Access | None,
    dry_run: bool,
    done: str,
    step: int | None = None,
    override_freeze: bool = False,
) -> None:
    if there is not None:
        cluster.say(there, name, kind, reason, done, step=step, dry_run=dry_run)
        return
    with reaching.client(data_dir) as client:
        if dry_run:
            obeying.check(client.rollout(name), kind, step)
            say(f"{typed(kind)} {name}: would be possible: {done}")
            return
        command = client.command(name, kind, reason=reason, step=step, override_freeze=override_freeze)
        waits = obeying.until_obeyed(client, name, command)
    say(f"{typed(kind)} {name}: {waits or done}")
