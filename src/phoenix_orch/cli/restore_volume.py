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

from phoenix_orch.cli.cluster_options import Context, Kubeconfig
from phoenix_orch.cli.options import UNSET, DataDir, Output, OutputOption, Reason
from phoenix_orch.cli.output import emit, say
from phoenix_orch.cli.second_person import BreakGlass, asking
from phoenix_orch.kernel import files
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.kernel.units import parse_duration
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.config import load
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.orchestrator.recorded import Wish, recorded
from phoenix_orch.recovery.restore.files_restore import Restored, restore
from phoenix_orch.recovery.restore.volume_manifest import objects, rendered
from phoenix_orch.recovery.restore.volume_swap import VolumeSwap
from phoenix_orch.recovery.sources.snapshot_plan import read_back
from phoenix_orch.runtime.users import name_of

LARGEST_DESCRIPTION = 1024 * 1024
Namespace = Annotated[
    str | None,
    typer.Option("--namespace", "-n", metavar="NAME", help="Left out: that of the copy, or of the context."),
]
Keep = Annotated[str, typer.Option("--keep", metavar="TIME", help="How long what was there is kept.")]


def plan(  # noqa: PLR0917 - one parameter for each option
    snapshot: Annotated[
        Path,
        typer.Option("--snapshot", metavar="FILE", help="The backup's snapshot.json; - is standard input."),
    ],
    write: Annotated[Path, typer.Option("--write", metavar="FILE", help="Write it for kubectl apply -f.")],
    id_: Annotated[str, typer.Option("--id", metavar="ID", help="By which the new objects are named.")],
    image: Annotated[
        str, typer.Option("--image", metavar="IMAGE", help="That looks at the state.")
    ] = "phoenix-orchestrator",
    folder: Annotated[
        str, typer.Option("--folder", metavar="PATH", help="Of the state, within the volume.")
    ] = "",
    namespace: Namespace = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """A new claim with the data of a snapshot, and a Job that looks at it; changes nothing."""
    one = read_back(files.read(snapshot, at_most=LARGEST_DESCRIPTION))
    place = namespace or one.namespace
    made = objects(one, namespace=place, suffix=id_, image=image, folder=folder)
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


def run(  # noqa: PLR0917 - one parameter for each option
    archive: Annotated[
        Path,
        typer.Option("--archive", metavar="FILE", help="The backup's volume.tar; - is standard input."),
    ],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="The folder that it takes the place of.")],
    root: Annotated[
        str, typer.Option("--merkle-root", metavar="HEX", help="What the backup's manifest says.")
    ],
    keep: Keep = "7d",
    reason: Reason = "",
    break_glass: BreakGlass = "",
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> None:
    """Restore a folder beside its place, verify it, and exchange the two; the old one is kept.

    Whatever uses the folder has to be stopped before. Over a folder that is there it takes a second person,
    where a Phoenix runs and somebody else may approve.
    """
    target, kept = f"volume/{to.absolute()}", parse_duration(keep)
    wish = Wish("restore.volume", target, name_of(os.getuid()), root, break_glass or reason)
    if to.exists():
        agree = asking(data_dir, reason=reason, break_glass=break_glass)
        wish = replace(wish, second=agree(wish.action, f"{target} plan {root}"))
    with recorded(Layout(data_dir), wish, tell=say if output is Output.TABLE else _nothing) as told:
        done = restore(lambda: _opened(archive), to, root, now=datetime.now(UTC), keep=kept)
        told.update(_told(done))
    emit(output, _told(done), _said(done, to))


def swap(  # noqa: PLR0917 - one parameter for each option
    deployment: Annotated[str, typer.Argument(metavar="DEPLOYMENT", help="Whose claim it is.")],
    old: Annotated[str, typer.Option("--old", metavar="CLAIM", help="The claim that it uses.")],
    new: Annotated[str, typer.Option("--new", metavar="CLAIM", help="The one that was restored.")],
    keep: Keep = "7d",
    within: Annotated[
        str, typer.Option("--within", metavar="TIME", help="Wait so long until its pods have ended.")
    ] = "5m",
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    reason: Reason = "",
    break_glass: BreakGlass = "",
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
            await swap.deployment(deployment, old, new, until)

    target = f"claim/{namespace}/{deployment}" if namespace else f"claim/{deployment}"
    plan = f"{old} to {new}"
    wish = Wish("restore.claim", target, name_of(os.getuid()), plan, break_glass or reason)
    agree = asking(data_dir, reason=reason, break_glass=break_glass)
    wish = replace(wish, second=agree(wish.action, f"{target} plan {plan}"))
    with recorded(Layout(data_dir), wish, tell=say if output is Output.TABLE else _nothing):
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
    lines = [f"{done.names} names are in {to}, and are as they were copied"]
    if done.old and done.expires:
        lines.append(f"what was there is in {done.old} until {done.expires:%Y-%m-%d %H:%M} UTC")
    if done.not_kept:
        lines.append(f"this file system does not take {', '.join(done.not_kept)}")
    return "\n".join(lines)
