"""`phoenix restore plan config` and `phoenix restore run config`: with the rights of whoever asks."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from phoenix_orch.cli.backup_config import AsOf, Bundle, Commit, moment
from phoenix_orch.cli.cluster_options import Context, Kubeconfig
from phoenix_orch.cli.options import UNSET, DataDir, DryRun, Output, OutputOption, Reason
from phoenix_orch.cli.output import columns, emit, say
from phoenix_orch.cli.progress import working
from phoenix_orch.cli.second_person import BreakGlass, asking
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.kernel.text import counted
from phoenix_orch.kernel.units import parse_duration
from phoenix_orch.orchestrator import config_history, config_restore
from phoenix_orch.orchestrator.cluster.access import Access
from phoenix_orch.orchestrator.config_restore import ConfigPlan, Wanted
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.orchestrator.recorded import Wish, recorded
from phoenix_orch.recovery.restore.config_plan import Act
from phoenix_orch.runtime.users import name_of

MADE = Act.CREATE.value
UNREADY = 1
"""Exit status where something that was rolled does not serve."""
REFUSED = 1
"""Exit status where the cluster would not take all of it."""
Namespaces = Annotated[
    list[str] | None,
    typer.Option("--namespace", "-n", metavar="NAME", help="May be repeated; left out, all of the backup."),
]
IdentityFile = Annotated[
    Path,
    typer.Option("--identity", metavar="FILE", help="Holds the age key that opens the secrets."),
]


def plan(  # noqa: PLR0917 - one parameter for each option
    identity: IdentityFile,
    namespace: Namespaces = None,
    commit: Commit = None,
    as_of: AsOf = None,
    bundle: Bundle = None,
    write: Annotated[
        Path | None,
        typer.Option(
            "--write",
            metavar="FILE",
            help="Write it for kubectl apply -f, values of secrets in it, and ask no cluster.",
        ),
    ] = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> int:
    """What would be made, changed, replaced and rolled in the cluster, and what it would refuse of that.

    Changes nothing: the cluster is asked about each step without doing it. Exit status 1: it refuses some.
    """
    with config_history.opened(Layout(data_dir).configurations, bundle) as repository:
        at = config_history.chosen(repository, commit, moment(as_of))
        wanted = config_restore.wanted(repository, at, identity, tuple(namespace or ()))
    if write is not None:
        config_restore.write(wanted, write)
        written = ConfigPlan(commit=at.commit, hash="", steps=(), unchanged=len(wanted.objects))
        emit(
            output,
            written,
            f"{write} holds {counted(len(wanted.objects), 'object')} of {at.commit[:12]}, with values of "
            "secrets\n"
            f"apply them:       kubectl apply -f {write}\nand remove it:    rm {write}",
        )
        return 0
    with working("asking the cluster"):
        found = config_restore.plan(wanted, Access(None, kubeconfig, context))
    emit(output, found, _table(found, wanted))
    return REFUSED if found.refused else 0


def run(  # noqa: PLR0917
    identity: IdentityFile,
    confirm: Annotated[
        str, typer.Option("--confirm", metavar="HASH", help="What `phoenix restore plan config` told.")
    ],
    namespace: Namespaces = None,
    commit: Commit = None,
    as_of: AsOf = None,
    bundle: Bundle = None,
    within: Annotated[
        str, typer.Option("--within", metavar="TIME", help="Wait so long until what was rolled serves.")
    ] = "10m",
    reason: Reason = "",
    break_glass: BreakGlass = "",
    dry_run: DryRun = False,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> int:
    """Do what was planned, after the cluster has tried all of it; nothing where the plan has changed.

    What changes objects takes a second person, where a Phoenix runs and somebody else may approve.
    """
    with config_history.opened(Layout(data_dir).configurations, bundle) as repository:
        at = config_history.chosen(repository, commit, moment(as_of))
        wanted = config_restore.wanted(repository, at, identity, tuple(namespace or ()))
    seconds = parse_duration(within).total_seconds()
    if seconds < 0:
        raise Invalid(f"--within {within} is before now", remedy="for example --within 10m")
    access = Access(None, kubeconfig, context)
    if dry_run:
        tried = config_restore.look(wanted, access, confirm)
        emit(
            output,
            tried,
            f"{_table(tried, wanted)}\nthe cluster has tried all of it, and nothing was changed",
        )
        return 0
    journal = Layout(data_dir).configurations / "restores.jsonl"
    agree = asking(data_dir, reason=reason, break_glass=break_glass)
    target = f"config/{','.join(namespace) if namespace else 'all'}"

    def around(found: ConfigPlan) -> AbstractContextManager[dict[str, Any]]:
        wish = Wish(
            "restore.config",
            target,
            name_of(os.getuid()),
            found.hash,
            break_glass or reason,
            told={"commit": found.commit, "objects": [f"{one.act} {one.object}" for one in found.steps]},
        )
        if any(one.act != MADE for one in found.steps):
            wish = replace(wish, second=agree(wish.action, f"{target} plan {found.hash}"))
        return recorded(Layout(data_dir), wish, tell=say if output is Output.TABLE else _nothing)

    done = config_restore.run(wanted, access, confirm, seconds, journal, around=around)
    told = [f"put back {counted(done.done, 'object')}, rolled {counted(len(done.rolled), 'workload')}"]
    told += [f"{name} {why}" for name, why in done.unready.items()]
    emit(output, done, "\n".join(told))
    return UNREADY if done.unready else 0


def _nothing(_: str) -> None:
    """Whom a program asks, it tells once."""


def _table(found: ConfigPlan, wanted: Wanted) -> str:
    rows = [(one.act, one.object, ", ".join(one.fields)) for one in found.steps]
    table = columns(("ACT", "OBJECT", "FIELDS"), rows, empty="the cluster has all of it", whole=False)
    if not found.hash:
        return table
    where = "".join(f" -n {name}" for name in wanted.namespaces)
    lines = [table, f"as at {found.commit[:12]} already: {counted(found.unchanged, 'object')}"]
    lines += [f"not asked: {why}" for why in dict.fromkeys(found.unasked.values())]
    if found.refused:
        lines += [f"refused: {name}: {why}" for name, why in found.refused.items()]
        return "\n".join(
            [*lines, "mend that, or take another commit, and plan again: nothing is done with it"]
        )
    do = (
        f"do it: phoenix restore run config --commit {found.commit[:12]}{where} --confirm {found.hash}"
        " --identity FILE"
    )
    return "\n".join([*lines, do])
