"""`phoenix restore plan volume` and `run volume` for claims of a cluster, with the rights of whoever asks."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from phoenix_orch.cli import backup_pages
from phoenix_orch.cli.backup_config import moment
from phoenix_orch.cli.cluster_backups import cluster_backups
from phoenix_orch.cli.options import Output
from phoenix_orch.cli.output import emit, tell
from phoenix_orch.cli.progress import working
from phoenix_orch.cli.restore_options import AsOf, Component
from phoenix_orch.cli.restore_options import Which as Newest
from phoenix_orch.cli.second_person import asking
from phoenix_orch.kernel import files
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.kernel.units import parse_duration
from phoenix_orch.orchestrator import volume_restore
from phoenix_orch.orchestrator.cluster.access import Access
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.orchestrator.recorded import Wish, recorded
from phoenix_orch.orchestrator.volume_restore import VolumePlan, VolumeRestored, Wanted
from phoenix_orch.recovery import keys
from phoenix_orch.recovery.restore.exchange_plan import Exchange
from phoenix_orch.recovery.restore.volume_abort import Begun
from phoenix_orch.recovery.sources.claim_spec import StateCheck
from phoenix_orch.recovery.sources.snapshot_plan import read_back
from phoenix_orch.runtime.users import name_of

LARGEST_DESCRIPTION = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Which:
    """A copy, as options name it: from a storage, or its description in a file."""

    file: Annotated[
        Path | None,
        typer.Option(
            "--file", "-f", metavar="FILE", help="The phoenix.yaml of an orchestrator in a cluster."
        ),
    ] = None
    component: Component = ""
    backup: Newest = "latest"
    as_of: AsOf = None
    identity: Annotated[
        Path | None,
        typer.Option(
            "--identity", "-i", metavar="FILE", help="Private key; left out: identityFile of the file."
        ),
    ] = None
    snapshot: Annotated[
        Path | None,
        typer.Option("--snapshot", metavar="FILE", help="A backup's snapshot.json; - is standard input."),
    ] = None
    """In place of those."""
    id: Annotated[
        str, typer.Option("--id", metavar="ID", help="With --snapshot: by which the new objects are named.")
    ] = ""
    image: Annotated[
        str, typer.Option("--image", metavar="IMAGE", help="With --snapshot: looks at the state.")
    ] = "phoenix-orchestrator"
    folder: Annotated[
        str, typer.Option("--folder", metavar="PATH", help="Of the state, within the volume.")
    ] = ""
    into: Annotated[
        str | None,
        typer.Option("--into", metavar="NAME", help="Namespace of the claim; left out: that of the copy."),
    ] = None

    def words(self) -> str:
        """The same options, for the next command; `backup` is told as an id."""
        given = {
            "--file": self.file,
            "--component": self.component if self.file else None,
            "--identity": self.identity,
            "--snapshot": self.snapshot,
            "--id": self.id if self.snapshot else None,
            "--image": self.image if self.snapshot else None,
            "--folder": self.folder or None,
            "--into": self.into,
        }
        return " ".join(f"{option} {quote(str(value))}" for option, value in given.items() if value)


def wanted(which: Which, access: Access, data_dir: Path) -> Wanted:
    """Raises NotFound, Invalid, Corrupted, WrongKey."""
    if (which.file is None) == (which.snapshot is None):
        raise Invalid(
            "say which copy: a backup, or its description",
            remedy="--file phoenix.yaml --component volume/NAME; or --snapshot snapshot.json --id ID",
        )
    if which.snapshot is not None:
        if not which.id:
            raise Invalid("--snapshot needs --id", remedy="by which the new objects are named, as 20261128")
        one = read_back(files.read(which.snapshot, at_most=LARGEST_DESCRIPTION))
        check = StateCheck(image=which.image, folder=which.folder)
        return Wanted(one, which.id, which.into or one.namespace, check, ())
    assert which.file is not None
    if which.as_of is not None and which.backup != "latest":
        raise Invalid("--backup and --as-of both say which backup", remedy="give one of them")
    backups = cluster_backups(which.file, access, Layout(data_dir), by=_me())
    if which.identity is not None:
        backups.identities = keys.read(which.identity)
    found = backups.one(which.backup, component=which.component, as_of=moment(which.as_of))
    made = volume_restore.of_backup(backups, found, which.into)
    if which.folder:
        made = replace(made, check=made.check.model_copy(update={"folder": which.folder}))
    return made


def plan(which: Which, access: Access, data_dir: Path, output: Output) -> None:
    """Changes nothing."""
    what = wanted(which, access, data_dir)
    with working("asking the cluster"):
        found = volume_restore.plan(what, access)
    again = f"phoenix restore run volume {which.words()}{_there(access)}"
    named = "" if which.snapshot else f" --backup {found.backup}"
    told = {**found.model_dump(mode="json", by_alias=True), "steps": list(found.steps)}
    end = _abort(found, replace(access, namespace=found.namespace))
    emit(output, told, _page(found, f"{again}{named} --confirm {found.hash}", end))


def run(  # noqa: PLR0917 - what a command was given
    which: Which,
    access: Access,
    confirm: str,
    within: str,
    keep: str,
    why: tuple[str, str],
    output: Output,
    data_dir: Path,
    *,
    dry_run: bool,
) -> None:
    """`why`: the reason, and that of a broken glass."""
    what = wanted(which, access, data_dir)
    if dry_run:
        seen = volume_restore.confirmed_plan(what, access, confirm)
        told = {**seen.model_dump(mode="json", by_alias=True), "steps": list(seen.steps), "dryRun": True}
        end = _abort(seen, replace(access, namespace=seen.namespace))
        emit(output, told, _page(seen, "the same command without --dry-run; nothing was changed", end))
        return
    until = datetime.now(UTC) + parse_duration(keep)
    reason, break_glass = why

    def around(found: VolumePlan) -> AbstractContextManager[dict[str, Any]]:
        target = f"claim/{found.namespace}/{found.claim}"
        told = {"backup": found.backup, "oldVolume": found.old_volume, "stopped": list(found.stopped)}
        wish = Wish("restore.volume", target, _me(), found.hash, break_glass or reason, told=told)
        # what was begun is ended without a second question: what uses the claim has no pods until then
        if not found.begun and (found.old_volume or found.stopped):
            agree = asking(data_dir, reason=reason, break_glass=break_glass)
            wish = replace(wish, second=agree(wish.action, f"{target} plan {found.hash}"))
        return recorded(Layout(data_dir), wish, tell=_teller(output))

    done = volume_restore.run(
        what,
        access,
        confirm,
        within=_within(within),
        keep_until=until,
        tell=_teller(output),
        around=around,
    )
    emit(output, done, _done(done, _there(replace(access, namespace=done.namespace))))


def back(  # noqa: PLR0917 - what a command was given
    claim: str,
    volume: str,
    access: Access,
    within: str,
    keep: str,
    why: tuple[str, str],
    output: Output,
    data_dir: Path,
    *,
    dry_run: bool,
) -> None:
    """A volume that was kept goes under its claim again."""
    namespace, (reason, break_glass) = _namespace(access), why

    def around(one: Exchange) -> AbstractContextManager[dict[str, Any]]:
        target, plan = f"claim/{namespace}/{claim}", f"{one.old_volume} to {volume}"
        wish = Wish("restore.volume", target, _me(), plan, break_glass or reason)
        agree = asking(data_dir, reason=reason, break_glass=break_glass)
        wish = replace(wish, second=agree(wish.action, f"{target} plan {plan}"))
        return recorded(Layout(data_dir), wish, tell=_teller(output))

    until = datetime.now(UTC) + parse_duration(keep)
    one = volume_restore.back(
        claim,
        volume,
        access,
        namespace,
        within=_within(within),
        keep_until=until,
        dry_run=dry_run,
        around=around,
    )
    told = {
        "claim": claim,
        "volume": volume,
        "kept": one.old_volume,
        "until": until.isoformat(),
        "dryRun": dry_run,
    }
    has, is_ = ("would have", "would be") if dry_run else ("has", "is")
    emit(output, told, f"{claim} {has} {volume} again; {one.old_volume or 'nothing'} {is_} kept")


def abort(  # noqa: PLR0917 - what a command was given
    claim: str,
    backup: str,
    access: Access,
    within: str,
    keep: str,
    reason: str,
    output: Output,
    data_dir: Path,
) -> None:
    """A restore that died before the old claim went; `backup` may be empty."""
    namespace = _namespace(access)

    def around(one: Begun) -> AbstractContextManager[dict[str, Any]]:
        exchange = one.exchange
        told = {"backup": one.backup, "volume": exchange.volume if exchange is not None else ""}
        plan = exchange.plan if exchange is not None else ""
        wish = Wish("restore.abort", f"claim/{namespace}/{claim}", _me(), plan, reason, told=told)
        return recorded(Layout(data_dir), wish, tell=_teller(output))

    until = datetime.now(UTC) + parse_duration(keep)
    one = volume_restore.abort(
        claim, backup, access, namespace, within=_within(within), keep_until=until, around=around
    )
    old = one.exchange.old_volume if one.exchange is not None else ""
    told = {"claim": claim, "namespace": namespace, "backup": one.backup, "volume": old}
    emit(output, told, f"aborted: {claim} is as it was{f', with {old}' if old else ''}")


def _namespace(access: Access) -> str:
    if access.namespace is None:
        raise Invalid("--claim needs the namespace that it is in", remedy="add -n NAME")
    return access.namespace


def _abort(found: VolumePlan, access: Access) -> str:
    return f"phoenix restore abort {found.backup} --claim {found.claim}{_there(access)}"


def _page(found: VolumePlan, again: str, end: str) -> str:
    lines = [
        f"backup {found.backup} of {found.claim} in {found.namespace}, {backup_pages.size(found.size)}",
        f"as of  {found.as_of}",
        "",
        *(f"{number}. {step}" for number, step in enumerate(found.steps, 1)),
        "",
    ]
    if found.begun:
        lines += ["it was begun, and has not ended", f"end it: {end}"]
    return "\n".join([*lines, f"{'go on' if found.begun else 'do it'}: {again}"])


def _done(done: VolumeRestored, there: str) -> str:
    lines = [f"{done.claim} has the state of backup {done.backup}, in {done.volume}"]
    if done.seen:
        lines.append(f"seen by the Job: {done.seen}")
    lines += [
        f"watch it:      kubectl rollout status -n {done.namespace} {_kubectl(one)}" for one in done.stopped
    ]
    if done.old_volume:
        lines.append(f"{done.old_volume} is kept until {done.kept_until}")
        words = f"--claim {done.claim} --volume {done.old_volume}{there}"
        lines.append(f"take it back:  phoenix restore run volume {words}")
    return "\n".join(lines)


def _kubectl(workload: str) -> str:
    kind, _, name = workload.partition(" ")
    return f"{kind.lower()}/{name}"


def _there(access: Access) -> str:
    given = {"-n": access.namespace, "--kubeconfig": access.kubeconfig, "--context": access.context}
    return "".join(f" {option} {quote(str(value))}" for option, value in given.items() if value)


def _within(text: str) -> timedelta:
    return parse_duration(text)


def _teller(output: Output) -> Callable[[str], None]:
    """Whom a program asks, it tells once."""
    return tell if output is Output.TABLE else lambda _: None


def _me() -> str:
    return name_of(os.getuid())
