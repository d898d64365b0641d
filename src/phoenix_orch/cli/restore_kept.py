"""`phoenix restore kept`: what restores have kept of before. It lists first; the hash of that deletes."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from phoenix_orch.cli import backup_pages
from phoenix_orch.cli.cluster_options import Context, Kubeconfig
from phoenix_orch.cli.options import UNSET, DataDir, DryRun, Output, OutputOption, Reason
from phoenix_orch.cli.output import columns, emit, tell
from phoenix_orch.cli.second_person import BreakGlass, asking
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.kernel.units import parse_duration
from phoenix_orch.orchestrator import kept_states
from phoenix_orch.orchestrator.cluster.access import Access
from phoenix_orch.orchestrator.kept_states import KeptList, KeptState
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.orchestrator.recorded import Wish, recorded
from phoenix_orch.runtime.users import name_of


def kept(  # noqa: PLR0917 - one parameter for each option
    folder: Annotated[
        Path | None,
        typer.Option("--folder", metavar="DIR", help="Beside this folder, in place of a cluster."),
    ] = None,
    confirm: Annotated[
        str, typer.Option("--confirm", metavar="HASH", help="Delete what may go; left out: list.")
    ] = "",
    within: Annotated[
        str, typer.Option("--within", metavar="TIME", help="Wait so long until the storage has deleted each.")
    ] = "5m",
    namespace: Annotated[
        str | None,
        typer.Option("--namespace", "-n", metavar="NAME", help="Left out: that of the context."),
    ] = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    dry_run: DryRun = False,
    reason: Reason = "",
    break_glass: BreakGlass = "",
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> None:
    """What restores have kept of before: volumes, claims and folders, until when, and which may go.

    With --confirm those are deleted for good whose time is over, and which nothing has or could need. That
    takes a second person, where a Phoenix runs and somebody else may approve. --dry-run deletes nothing.
    """
    access = Access(namespace, kubeconfig, context)
    if folder is not None and any((namespace, kubeconfig, context)):
        raise Invalid("--folder is on this machine, and -n is for a cluster", remedy="give one of them")
    patience = parse_duration(within)

    def around(found: KeptList) -> AbstractContextManager[dict[str, Any]]:
        target = f"kept/{found.where}"
        told = {"going": [f"{one.kind} {one.name}" for one in found.going]}
        agree = asking(data_dir, reason=reason, break_glass=break_glass)
        second = agree("restore.kept", f"{target} plan {found.hash}")
        wish = Wish(
            "restore.kept",
            target,
            name_of(os.getuid()),
            found.hash,
            break_glass or reason,
            second=second,
            told=told,
        )
        return recorded(Layout(data_dir), wish, tell=telling)

    telling: Callable[[str], None] = tell if output is Output.TABLE else lambda _: None
    confirmed = "" if dry_run else confirm
    if folder is not None:
        found = kept_states.in_folder(folder, confirmed, around=around, tell=telling)
    else:
        found = kept_states.in_cluster(access, confirmed, within=patience, around=around, tell=telling)
    emit(output, found, _page(found, _again(folder, access)))


def _page(found: KeptList, again: str) -> str:
    if found.deleted:
        stay = len(found.kept) - len(found.deleted)
        return f"{len(found.deleted)} were deleted, {stay} are kept"
    table = columns(
        ("KIND", "NAME", "OF", "KEPT UNTIL", "SIZE", "WHY IT STAYS"),
        [_row(one) for one in found.kept],
        empty=f"no restore has kept anything in {found.where}",
    )
    if not found.kept:
        return table
    if not found.hash:
        return f"{table}\nnone of it may go"
    return f"{table}\ndelete {len(found.going)}: {again} --confirm {found.hash}"


def _row(one: KeptState) -> tuple[str, ...]:
    until = f"{one.until:%Y-%m-%d %H:%M}" if one.until else ""
    size = backup_pages.size(one.size) if one.size else ""
    return one.kind, one.name, one.of, until, size, one.stays


def _again(folder: Path | None, access: Access) -> str:
    given: dict[str, object] = {
        "--folder": folder,
        "-n": access.namespace,
        "--kubeconfig": access.kubeconfig,
        "--context": access.context,
    }
    words = "".join(f" {option} {quote(str(value))}" for option, value in given.items() if value)
    return f"phoenix restore kept{words}"
