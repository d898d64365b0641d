"""`phoenix backup`: reads and writes the storage of backups itself, so that it needs no Phoenix that runs.

Only `run` asks the one that runs, where there is one: so two runs are never on the same component.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phoenix_orch.cli import backup_config, reaching
from phoenix_orch.cli import backup_pages as pages
from phoenix_orch.cli.cluster_backups import cluster_backups, of_cluster
from phoenix_orch.cli.interrupted import interruptible
from phoenix_orch.cli.options import UNSET, DataDir, DryRun, Output, OutputOption, Reason
from phoenix_orch.cli.output import emit, say, tell
from phoenix_orch.cli.progress import working
from phoenix_orch.cli.records import moment
from phoenix_orch.cli.second_person import BreakGlass, asking
from phoenix_orch.cli.task import follow_task
from phoenix_orch.kernel.errors import BadState, Conflict, Invalid, Unavailable
from phoenix_orch.orchestrator.audited_here import audited
from phoenix_orch.orchestrator.cluster.access import Access
from phoenix_orch.orchestrator.config import load
from phoenix_orch.orchestrator.kept_config import read_kept
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.orchestrator.recorded import Wish, recorded
from phoenix_orch.runtime.users import name_of
from phoenix_orch.tasks.port import RunRequest

if TYPE_CHECKING:
    from phoenix_orch.orchestrator.backups import Backups
    from phoenix_orch.recovery.catalog import Backup
    from phoenix_orch.recovery.manifest import Trigger
    from phoenix_orch.recovery.publish import Step

app = typer.Typer(
    name="backup",
    help="Take, list, verify, pin, prune and open backups.",
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
)
app.add_typer(backup_config.app, name="config")
HASH = 10
"""Characters of a manifest's hash, by which an approval names a backup."""
FAILED = 1
"""Exit status for a backup that does not hold, and for a list with faults."""


def _ids(ctx: typer.Context, incomplete: str) -> list[str]:
    """Ids for Tab; none where the storage does not answer. A completion never complains."""
    try:
        given = ctx.params
        before = ctx.find_root().obj
        data_dir = given.get("data_dir") or before
        if not isinstance(data_dir, Path) or data_dir == UNSET:
            from phoenix_orch.cli.options import default_data_dir  # noqa: PLC0415 - only for Tab

            data_dir = default_data_dir()
        backups = _backups(data_dir, given.get("file"))
        found = [backup.id for view in backups.views() for backup in view.backups]
    except Exception:  # noqa: BLE001 - nothing may spoil the command line that is being typed
        return []
    return [name for name in ["latest", *found] if name.startswith(incomplete)]


Id = Annotated[
    str,
    typer.Argument(metavar="ID", help="Id, the beginning of one, or `latest`.", autocompletion=_ids),
]
Component = Annotated[str, typer.Option("--component", metavar="NAME", help="Of this component only.")]
AsOf = Annotated[
    str | None,
    typer.Option("--as-of", metavar="WHEN", help="The newest whose state is not later; a moment, or 2h."),
]
File = Annotated[
    Path | None,
    typer.Option(
        "--file", "-f", metavar="FILE", help="A phoenix.yaml that names the storage; left out: as applied."
    ),
]


@app.command("list")
def list_backups(
    component: Component = "",
    file: File = None,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> int:
    """All backups with their age, RPO and how far each was verified; exit status 1 where one is missing.

    Times are UTC. A backup counts from level 2 on: it was opened and compared.
    """
    with working("reading the storage of backups"):
        views = _backups(data_dir, file).views(component)
    found: dict[str, Any] = {
        "backups": [pages.summary(backup) for view in views for backup in view.backups],
        "faults": [fault.message for view in views for fault in view.faults],
    }
    emit(output, found, pages.listing(views, datetime.now(UTC)))
    return FAILED if found["faults"] else 0


@app.command()
def show(  # noqa: PLR0917 - one parameter for each option
    backup: Id = "latest",
    component: Component = "",
    as_of: AsOf = None,
    file: File = None,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> None:
    """Everything about one backup, and the shell line that opens it without Phoenix."""
    with working("reading the storage of backups"):
        found = _one(_backups(data_dir, file), backup, component, as_of)
    emit(output, pages.detail(found), pages.page(found, datetime.now(UTC)))


@app.command()
def run(  # noqa: PLR0917
    component: Annotated[
        str, typer.Argument(metavar="COMPONENT", help="What to back up: config, redis/NAME, volume/NAME.")
    ],
    reason: Reason = "",
    dry_run: DryRun = False,
    file: File = None,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> int:
    """Take a backup now, look at what was stored, and publish it.

    By the Phoenix that runs, where one does; else by this command itself.
    """
    from phoenix_orch.recovery.manifest import Trigger, TriggerKind  # noqa: PLC0415 - half a second

    if file is None:
        arguments = {"component": component, "reason": reason}
        request = RunRequest(kind="backup.run", arguments=arguments, target=component, reason=reason)
        try:
            with reaching.client(data_dir) as client:
                record = client.run_task(request, dry_run=dry_run)
                if dry_run:
                    emit(output, record, f"a backup of {component} would be taken by Phoenix, as a task")
                    return 0
                return follow_task(client, record.id)
        except Unavailable:
            if reaching.elsewhere():
                raise
    backups = _backups(data_dir, file)
    if dry_run:
        known = component in backups.sources()
        text = f"a backup of {component} would be taken" if known else f"{component} is not backed up here"
        emit(output, {"component": component, "dryRun": True, "known": known}, text)
        return 0 if known else FAILED
    trigger = Trigger(kind=TriggerKind.MANUAL, actor=_me(), reason=reason)
    found = [_run_one(backups, member, trigger, data_dir) for member in backups.members(component)]
    lines = [f"published {one.id}: {pages.level(one)}, {pages.standing(one)}" for one in found]
    told = [pages.detail(one) for one in found]
    emit(output, told[0] if len(told) == 1 else {"backups": told}, "\n".join(lines))
    return 0 if all(not one.shrunk and one.failed is None for one in found) else FAILED


def _run_one(backups: Backups, component: str, trigger: Trigger, data_dir: Path) -> Backup:
    """Raises Conflict where another one was published meanwhile."""
    from phoenix_orch.orchestrator.backup_progress import waiting_for  # noqa: PLC0415 - half a second
    from phoenix_orch.recovery.publish import Step, Told  # noqa: PLC0415

    about, steps = f"backup/{component}", list["Step"]()

    def step(reached: Step) -> None:
        steps.append(reached)
        if reached is Step.BEGUN:
            tell(waiting_for(component))

    with (
        interruptible(lambda: _left(steps)),
        audited(Layout(data_dir), "backup.run", about, actor=_me(), reason=trigger.reason) as done,
        working(f"backing up {component}") as tell,
    ):
        told = Told(
            step=step,
            storing=lambda count: tell(f"{pages.size(count)} stored"),
            looking=lambda count: tell(f"{pages.size(count)} looked at"),
            warn=_warned,
        )
        published = backups.run(component, trigger, told=told)
        if published is not None:
            done.update(id=published.manifest.id, level=published.look.level.value)
    if published is None:
        raise Conflict(f"a backup of {component} was published meanwhile", remedy="`phoenix backup list`")
    return backups.one(published.manifest.id)


@app.command()
def verify(  # noqa: PLR0917
    backup: Id = "latest",
    component: Component = "",
    level: Annotated[
        int | None,
        typer.Option("--level", min=0, max=5, help="How far; left out: as far as can be seen here."),
    ] = None,
    file: File = None,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> int:
    """Look at a backup and record what was seen; exit status 1 where it does not hold.

    0: it is there · 1: what is stored holds · 2: it opens and its content holds · 3: it is well-formed ·
    4: a server that is thrown away loads it (Redis) · 5: it serves: what the monthly drill sees.
    """
    from phoenix_orch.recovery.manifest import Level  # noqa: PLC0415 - half a second
    from phoenix_orch.recovery.publish import Told  # noqa: PLC0415

    with working("reading the storage of backups"):
        backups = _backups(data_dir, file)
        found = _one(backups, backup, component, None, any_of_them=True)
    with (
        interruptible("nothing was recorded; the backup is as it was"),
        audited(Layout(data_dir), "backup.verify", f"backup/{found.id}", actor=_me()) as done,
        working(f"looking at {found.id}") as tell,
    ):
        told = Told(looking=lambda count: tell(pages.size(count)))
        look = backups.verify(found, None if level is None else Level(level), told=told)
        done.update(level=look.level.value, passed=look.passed)
    word = "holds" if look.passed else "does NOT hold"
    emit(output, look, f"{found.id} {word} at level {look.level.value}: {look.detail} ({look.seconds:.1f} s)")
    return 0 if look.passed else FAILED


@app.command()
def init(
    reason: Reason = "",
    dry_run: DryRun = False,
    file: File = None,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> None:
    """Begin with the storage that is there now, where it is empty or another one than before.

    The first backup makes the mark of a storage by itself; from then on another one is refused. What was seen
    in the former one is forgotten here, and nothing is removed from either.
    """
    from phoenix_orch.recovery.storage_mark import StorageLostError  # noqa: PLC0415 - half a second

    marks, before = _backups(data_dir, file).marks, ""
    try:
        known = marks.look()
    except StorageLostError as error:
        known, before = None, error.message
    if known is not None:
        say(f"{marks.where} is in use since {known.made:%F %T} UTC; there is nothing to do")
        return
    if not dry_run:
        told = {"storage": marks.where, "before": before}
        with _recorded(
            data_dir, Wish("backup.init", "backup/storage", _me(), reason=reason, told=told)
        ) as done:
            mark, _ = marks.begin()
            done.update(storage=mark.id)
    found = {"storage": marks.where, "before": before, "dryRun": dry_run}
    emit(
        output,
        found,
        f"{marks.where} {_would(dry_run)} used from now on{f'; before: {before}' if before else ''}",
    )


@app.command()
def pin(  # noqa: PLR0917
    backup: Id,
    reason: Reason = "",
    dry_run: DryRun = False,
    file: File = None,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> None:
    """Keep a backup until it is unpinned, whatever retention says."""
    with working("reading the storage of backups"):
        backups = _backups(data_dir, file)
        found = _one(backups, backup, "", None)
    if found.pin is not None:
        raise BadState(
            f"{found.id} is pinned by {found.pin.by} already", remedy="`phoenix backup unpin` first"
        )
    if not dry_run:
        with _recorded(data_dir, Wish("backup.pin", f"backup/{found.id}", _me(), reason=reason)):
            backups.pin(found, reason)
    emit(output, {"id": found.id, "pinned": not dry_run}, f"{found.id} {_would(dry_run)} kept")


@app.command()
def unpin(  # noqa: PLR0917
    backup: Id,
    reason: Reason = "",
    break_glass: BreakGlass = "",
    dry_run: DryRun = False,
    file: File = None,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> None:
    """Leave a backup to retention again, which may delete it.

    It takes a second person, where a Phoenix runs and somebody else may approve.
    """
    with working("reading the storage of backups"):
        backups = _backups(data_dir, file)
        found = _one(backups, backup, "", None)
    if not dry_run:
        wish = Wish("backup.unpin", f"backup/{found.id}", _me(), reason=break_glass or reason)
        wish = _agreed(data_dir, wish, found.sha256, reason, break_glass)
        with _recorded(data_dir, wish):
            backups.unpin(found)
    emit(output, {"id": found.id, "pinned": False}, f"{found.id} {_would(dry_run)} left to retention")


@app.command()
def acknowledge(  # noqa: PLR0917
    backup: Id,
    reason: Reason = "",
    break_glass: BreakGlass = "",
    dry_run: DryRun = False,
    file: File = None,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> None:
    """Say that it is right for a backup to be much smaller than those before: from then on it counts.

    Of one that is gone, and nothing says why, it says that the loss is known. Retention deletes older ones
    again then, so that it takes a second person, where a Phoenix runs and somebody else may approve.
    """
    with working("reading the storage of backups"):
        backups = _backups(data_dir, file)
        loss = backups.lost(backup)
    if loss is not None:
        if not dry_run:
            wish = Wish("backup.acknowledge", f"backup/{loss.link.id}", _me(), reason=break_glass or reason)
            wish = _agreed(data_dir, wish, loss.link.sha256, reason, break_glass)
            with _recorded(data_dir, wish) as told:
                backups.acknowledge_loss(loss, break_glass or reason)
                told.update(lost=True)
        text = f"the loss of {loss.link.id} {_would(dry_run)} known"
        emit(output, {"id": loss.link.id, "lost": True, "acknowledged": not dry_run}, text)
        return
    found = _one(backups, backup, "", None, any_of_them=True)
    if not found.shrunk:
        raise BadState(f"{found.id} is not smaller than it should be", remedy="there is nothing to do")
    if not dry_run:
        wish = Wish("backup.acknowledge", f"backup/{found.id}", _me(), reason=break_glass or reason)
        wish = _agreed(data_dir, wish, found.sha256, reason, break_glass)
        with _recorded(data_dir, wish):
            backups.acknowledge(found, break_glass or reason)
    emit(output, {"id": found.id, "acknowledged": not dry_run}, f"{found.id} {_would(dry_run)} counted")


@app.command()
def prune(  # noqa: PLR0917
    component: Component = "",
    reason: Reason = "",
    dry_run: DryRun = False,
    file: File = None,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> int:
    """Mark what retention does not keep, and remove what was marked a day ago; exit status 1 where it stops.

    --dry-run explains every keep and delete.
    """
    with working("reading the storage of backups"):
        backups = _backups(data_dir, file)
        views = backups.views(component)
    parts, texts, stop = [], [], False
    for view in views:
        plan = backups.plan(view)
        done = backups.prune(view, plan, dry_run=True)
        if not dry_run and (done.marked or done.removed or done.swept):
            target = f"backup/{view.scope.component}"
            asked = {"mark": list(done.marked), "remove": list(done.removed), "sweep": len(done.swept)}
            wish = Wish("backup.prune", target, _me(), reason=reason, told=asked)
            with _recorded(data_dir, wish) as told:
                done = backups.prune(view, plan)
                told.update(marked=list(done.marked), removed=list(done.removed), swept=len(done.swept))
        parts.append(pages.plan_data(plan, done))
        texts.append(pages.explained(plan, done, dry_run=dry_run))
        stop = stop or bool(plan.stop)
    emit(output, {"components": parts, "dryRun": dry_run}, "\n".join(texts))
    return FAILED if stop else 0


@app.command()
def cat(  # noqa: PLR0917
    backup: Id = "latest",
    component: Component = "",
    as_of: AsOf = None,
    identity: Annotated[
        Path | None,
        typer.Option("--identity", "-i", metavar="FILE", help="Private key; left out: the online one."),
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", help="Where to; left out: standard output.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over the file of --to.")] = False,
    file: File = None,
    data_dir: DataDir = UNSET,
) -> None:
    """Write what a backup holds. A file appears whole and proven, or not at all."""
    from phoenix_orch.recovery import keys  # noqa: PLC0415 - half a second

    backups = _backups(data_dir, file)
    if identity is not None:
        backups.identities = keys.read(identity)
    found = _one(backups, backup, component, as_of)
    if to is not None:
        _refuse_present(to, force=force)
    if to is None and sys.stdout.isatty():
        raise Invalid("a backup is nothing for a terminal", remedy="give --to FILE, or a pipe")
    left = "what was written is not whole" if to is None else f"{to} was not written"
    with interruptible(left), audited(Layout(data_dir), "backup.read", f"backup/{found.id}", actor=_me()):
        _write(backups, found, to, force=force)
    if to is not None:
        much = pages.size(found.manifest.stream.raw_bytes)
        say(f"{found.id} of {found.manifest.component} is in {to}, {much}", to=sys.stderr)


def _refuse_present(to: Path, *, force: bool) -> None:
    if not force and os.path.lexists(to):
        raise BadState(f"{to} is there already", remedy="name another file, or write over it with --force")


def _write(backups: Backups, found: Backup, to: Path | None, *, force: bool) -> None:
    if to is None:
        backups.cat(found, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    try:
        with tempfile.NamedTemporaryFile(dir=to.absolute().parent, delete=False) as part:
            temporary = Path(part.name)
            try:
                backups.cat(found, part)
                part.flush()
                os.fsync(part.fileno())
                _refuse_present(to, force=force)  # it may have come meanwhile
                temporary.replace(to)
            finally:
                temporary.unlink(missing_ok=True)
    except OSError as error:
        raise Invalid(f"{to} cannot be written: {error.strerror}", remedy="name another file") from error


@app.command("keys")
def show_keys(file: File = None, output: OutputOption = Output.TABLE, data_dir: DataDir = UNSET) -> None:
    """The public key that manifests are signed with here; another machine names it in backup.trustedKeys."""
    backups = _backups(data_dir, file)
    emit(output, {"signing": backups.public_key}, backups.public_key)


def _backups(data_dir: Path, file: Path | None) -> Backups:
    """By the file that is named, else by what was applied last. What is logged goes to standard error."""
    from phoenix_orch.orchestrator.backups import Backups  # noqa: PLC0415 - half a second
    from phoenix_orch.runtime.logs import configure_logs  # noqa: PLC0415 - with it

    configure_logs()
    layout = Layout(data_dir)
    if file is not None and of_cluster(file):
        return cluster_backups(file, Access(), layout, by=_me())
    if file is None:
        reaching.here_only("backups", "name its configuration with --file; `backup run` can be asked of it")
    config = load(file) if file is not None else read_kept(layout.config)
    if config is None or config.backup is None:
        raise Invalid(
            "backups are not configured" if file is None else f"{file} has no section backup",
            remedy="`phoenix keys init` makes keys and says what to put into phoenix.yaml; "
            "name the file with --file",
        )
    return Backups(config.backup, layout, by=_me())


def _one(
    backups: Backups, word: str, component: str, as_of: str | None, *, any_of_them: bool = False
) -> Backup:
    """`any_of_them`: `latest` is the newest even where it does not count."""
    when = moment(as_of, datetime.now(UTC)) if as_of is not None else None
    if any_of_them and word == "latest":
        newest = [view.live[0] for view in backups.views(component) if view.live]
        if len(newest) == 1:
            return newest[0]
    return backups.one(word, component=component, as_of=when)


def _recorded(data_dir: Path, wish: Wish) -> AbstractContextManager[dict[str, Any]]:
    return recorded(Layout(data_dir), wish, tell=_warned, begin_log=True)


def _warned(text: str) -> None:
    tell(text, to=sys.stderr)


def _agreed(data_dir: Path, wish: Wish, manifest: str, reason: str, break_glass: str) -> Wish:
    """With what a second person said. Raises BadState where nobody has agreed yet."""
    plan = manifest[:HASH]
    agree = asking(data_dir, reason=reason, break_glass=break_glass)
    return replace(wish, plan=plan, second=agree(wish.action, f"{wish.target} plan {plan}"))


def _left(steps: Sequence[Step]) -> str:
    """What an interrupted run has left."""
    from phoenix_orch.recovery.publish import Step  # noqa: PLC0415

    if Step.COMMITTED in steps:
        return "the backup is published; `phoenix backup list` shows it"
    return "nothing was published; what was stored of it is swept by `phoenix backup prune` a day later"


def _would(dry_run: bool) -> str:
    return "would be" if dry_run else "is"


def _me() -> str:
    return name_of(os.getuid())
