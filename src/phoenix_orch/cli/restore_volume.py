"""`phoenix restore plan volume`, `run volume` and `run claim`: needs nothing of Phoenix that runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from phoenix_orch.cli import restore_claim
from phoenix_orch.cli.cluster_options import Context, Kubeconfig
from phoenix_orch.cli.option_groups import grouped
from phoenix_orch.cli.options import UNSET, DataDir, DryRun, Output, OutputOption, Reason
from phoenix_orch.cli.output import emit, tell
from phoenix_orch.cli.restore_claim import Which
from phoenix_orch.cli.second_person import BreakGlass, asking
from phoenix_orch.kernel import files
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.kernel.text import counted
from phoenix_orch.kernel.units import parse_duration
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.config import load
from phoenix_orch.orchestrator.cluster.access import Access
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.orchestrator.recorded import Wish, recorded
from phoenix_orch.recovery.restore.files_restore import Restored, look, restore
from phoenix_orch.recovery.restore.volume_manifest import objects, rendered, words_of
from phoenix_orch.recovery.restore.volume_swap import VolumeSwap
from phoenix_orch.runtime.users import name_of

Namespace = Annotated[
    str | None,
    typer.Option("--namespace", "-n", metavar="NAME", help="Left out: that of the context, or of the pod."),
]
Within = Annotated[
    str, typer.Option("--within", metavar="TIME", help="Wait so long until its pods have ended.")
]
Keep = Annotated[str, typer.Option("--keep", metavar="TIME", help="How long what was there is kept.")]


@grouped
def plan(  # noqa: PLR0917 - one parameter for each option
    which: Which,
    write: Annotated[
        Path | None,
        typer.Option("--write", metavar="FILE", help="Write it for kubectl apply -f, and ask no cluster."),
    ] = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> None:
    """What a restore of a claim would do: a new volume from a snapshot, looked at by a Job, in its place.

    Changes nothing. The copy is a backup of a cluster (--file, --component), or snapshot.json of one.
    """
    access = Access(namespace, kubeconfig, context)
    if which.snapshot is not None and which.into is None:
        which = replace(which, into=namespace)
    if write is None:
        restore_claim.plan(which, access, data_dir, output)
        return
    what = restore_claim.wanted(which, access, data_dir)
    one, place, name = what.one, what.namespace, what.backup
    command = words_of(what.check, what.checks) if what.check.command or what.checks else ()
    made = objects(
        one,
        namespace=place,
        suffix=name,
        image=what.check.image,
        command=command,
        folder=what.check.folder,
    )
    try:
        write.write_text(rendered(made), encoding="utf-8")
    except OSError as error:
        raise Invalid(f"{write} cannot be written: {error.strerror}", remedy="name another file") from error
    claim, job = made[2]["metadata"]["name"], made[3]["metadata"]["name"]
    lines = [
        f"{one.claim} of {one.created}, {one.restore_size:,} bytes, becomes {claim}",
        f"restore it:    kubectl apply -f {write}",
        f"look at it:    kubectl wait -n {place} --for=condition=complete job/{job} --timeout=10m",
        f"take it:       phoenix restore run claim DEPLOYMENT -n {place} --old {one.claim} --new {claim}",
    ]
    emit(output, {"file": os.fspath(write), "namespace": place, "claim": claim, "job": job}, "\n".join(lines))


@grouped
def run(  # noqa: PLR0917 - one parameter for each option
    which: Which,
    archive: Annotated[
        Path | None,
        typer.Option("--archive", metavar="FILE", help="The backup's volume.tar; - is standard input."),
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="DIR", help="The folder that it takes the place of.")
    ] = None,
    root: Annotated[
        str, typer.Option("--merkle-root", metavar="HEX", help="What the backup's manifest says.")
    ] = "",
    confirm: Annotated[
        str, typer.Option("--confirm", metavar="HASH", help="Of a claim: what the plan told.")
    ] = "",
    claim: Annotated[
        str, typer.Option("--claim", metavar="NAME", help="The way back: the claim that gets --volume again.")
    ] = "",
    volume: Annotated[
        str, typer.Option("--volume", metavar="NAME", help="The PersistentVolume that was kept.")
    ] = "",
    within: Within = "5m",
    keep: Keep = "7d",
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    reason: Reason = "",
    break_glass: BreakGlass = "",
    dry_run: DryRun = False,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> None:
    """Restore a folder, or a claim of a cluster, beside its place, verify it, and exchange the two.

    The old one is kept. A folder: --archive, --to, --merkle-root; what uses it has to be stopped before. A
    claim: what `phoenix restore plan volume` told; what uses it ends meanwhile, and the claim keeps its name.
    Killed, the same command goes on. It takes a second person, where a Phoenix runs and somebody may approve.
    """
    access, why = Access(namespace, kubeconfig, context), (reason, break_glass)
    if claim or volume:
        restore_claim.back(claim, volume, access, within, keep, why, output, data_dir, dry_run=dry_run)
        return
    if confirm:
        restore_claim.run(which, access, confirm, within, keep, why, output, data_dir, dry_run=dry_run)
        return
    if archive is None or to is None or not root:
        raise Invalid(
            "say what is restored",
            remedy="a folder: --archive FILE --to DIR --merkle-root HEX; a claim: as the plan told",
        )
    if dry_run:
        there = look(to)
        with _opened(archive):
            pass
        verb = f"be exchanged with what {archive} holds, and be kept" if there else f"be made from {archive}"
        emit(output, {"to": os.fspath(to), "there": there, "dryRun": True}, f"{to} would {verb}")
        return
    target, kept = f"volume{to.absolute()}", parse_duration(keep)
    wish = Wish("restore.volume", target, name_of(os.getuid()), root, break_glass or reason)
    if to.exists():
        agree = asking(data_dir, reason=reason, break_glass=break_glass)
        wish = replace(wish, second=agree(wish.action, f"{target} plan {root}"))
    with recorded(Layout(data_dir), wish, tell=tell if output is Output.TABLE else _nothing) as told:
        done = restore(lambda: _opened(archive), to, root, now=datetime.now(UTC), keep=kept)
        told.update(_told(done))
    emit(output, _told(done), _said(done, to))


def swap(  # noqa: PLR0917 - one parameter for each option
    deployment: Annotated[str, typer.Argument(metavar="DEPLOYMENT", help="Whose claim it is.")],
    old: Annotated[str, typer.Option("--old", metavar="CLAIM", help="The claim that it uses.")],
    new: Annotated[str, typer.Option("--new", metavar="CLAIM", help="The one that was restored.")],
    keep: Keep = "7d",
    within: Within = "5m",
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    reason: Reason = "",
    break_glass: BreakGlass = "",
    dry_run: DryRun = False,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> None:
    """Let a Deployment use a restored claim: its pods end, the claim is exchanged, they start again.

    Given the other way round it is the way back. Once more after an error goes on where it was. It takes a
    second person, where a Phoenix runs and somebody else may approve.
    """
    until = datetime.now(UTC) + parse_duration(keep)

    async def swapping() -> None:
        async with KubeClient(load(kubeconfig, context=context, namespace=namespace)) as client:
            swap = VolumeSwap(client, client.namespace, timeout=parse_duration(within))
            if dry_run:
                await swap.look(deployment, old, new)
            else:
                await swap.deployment(deployment, old, new, until)

    if dry_run:
        asyncio.run(swapping())
        would = {"deployment": deployment, "claim": new, "kept": old, "dryRun": True}
        emit(output, would, f"{deployment} would use {new}; its pods would end, and {old} would be kept")
        return

    target = f"claim/{namespace}/{deployment}" if namespace else f"claim/{deployment}"
    plan = f"{old} to {new}"
    wish = Wish("restore.claim", target, name_of(os.getuid()), plan, break_glass or reason)
    agree = asking(data_dir, reason=reason, break_glass=break_glass)
    wish = replace(wish, second=agree(wish.action, f"{target} plan {plan}"))
    with recorded(Layout(data_dir), wish, tell=tell if output is Output.TABLE else _nothing):
        asyncio.run(swapping())
    told = {"deployment": deployment, "claim": new, "kept": old, "until": until.isoformat()}
    emit(
        output,
        told,
        f"{deployment} uses {new}; {old} is kept until {until:%Y-%m-%d %H:%M} UTC\n"
        f"watch it:      kubectl rollout status deployment/{deployment}\n"
        f"take it back:  phoenix restore run claim {deployment} --old {new} --new {old}",
    )


@contextlib.contextmanager
def _opened(archive: Path) -> Iterator[typer.FileBinaryRead]:
    if str(archive) == files.STDIN:
        yield sys.stdin.buffer  # type: ignore[misc]
        return
    try:
        file = archive.open("rb")
    except OSError as error:
        raise Invalid(f"{archive} cannot be read: {error.strerror}", remedy="name the archive") from error
    with file:
        yield file  # type: ignore[misc]


def _nothing(_: str) -> None:
    """Whom a program asks, it tells once."""


def _told(done: Restored) -> dict[str, object]:
    return {
        "names": done.names,
        "old": os.fspath(done.old) if done.old else None,
        "expires": done.expires.isoformat() if done.expires else None,
        "attributesNotKept": list(done.not_kept),
    }


def _said(done: Restored, to: Path) -> str:
    lines = [f"{to} holds {counted(done.names, 'name')}, as they were copied"]
    if done.old and done.expires:
        lines.append(f"what was there is in {done.old} until {done.expires:%Y-%m-%d %H:%M} UTC")
    if done.not_kept:
        lines.append(f"this file system does not take {', '.join(done.not_kept)}")
    return "\n".join(lines)
