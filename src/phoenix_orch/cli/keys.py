"""`phoenix keys`: who can open backups. Needs no Phoenix that runs."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from phoenix_orch.cli import reaching
from phoenix_orch.cli.interrupted import interruptible
from phoenix_orch.cli.options import UNSET, DataDir, DryRun, Output, OutputOption, Reason
from phoenix_orch.cli.output import columns, emit, say, tell
from phoenix_orch.cli.progress import working
from phoenix_orch.cli.second_person import BreakGlass, asking
from phoenix_orch.kernel.errors import BadState, Invalid, Terminal
from phoenix_orch.orchestrator.config import load
from phoenix_orch.orchestrator.kept_config import read_kept
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.orchestrator.recorded import Wish, recorded
from phoenix_orch.runtime.users import name_of

if TYPE_CHECKING:
    from phoenix_orch.recovery.catalog import Backup
    from phoenix_orch.recovery.keys import Identity, Recipient
    from phoenix_orch.recovery.spec import BackupSpec

app = typer.Typer(
    name="keys",
    help="Make, show, check, rotate keys of backups, and rekey these.",
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
)
Config = Annotated[
    Path | None,
    typer.Option("--file", "-f", metavar="FILE", help="A phoenix.yaml; left out: the one applied last."),
]
OnlineFile = Annotated[
    Path | None,
    typer.Option("--online-file", metavar="FILE", help="The online key; left out: in the data directory."),
]
TERMINAL = Path("-")
HASH = 10
"""Characters of a hash, by which an approval names what is rekeyed."""


class _View(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class KeyView(_View):
    """A recipient, as far as it may be seen."""

    name: str
    key: str
    offline: bool = False
    recipient: bool = True
    """phoenix.yaml seals backups for it."""
    here: bool = False
    """Its private key is on this machine."""
    file: str = ""
    signing: str = ""
    """The public key by which others know what this machine signs; of its online key alone."""


class CheckView(_View):
    opened_by: str
    recipients: int
    renewed: bool


@app.command()
def init(
    recovery_file: Annotated[
        Path,
        typer.Option(
            "--recovery-file", metavar="FILE", help="Where the recovery key goes; - is the terminal."
        ),
    ] = TERMINAL,
    online_file: OnlineFile = None,
    dry_run: DryRun = False,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> None:
    """Make the online key of this machine, and the offline recovery key, which is shown this once.

    The key that signs manifests is made with them, where there is none; it opens nothing.
    """
    from phoenix_orch.recovery import key_acts  # noqa: PLC0415 - cryptography takes a while
    from phoenix_orch.recovery.signing import SIGNING, signing_key  # noqa: PLC0415

    online = _online(online_file, data_dir)
    if recovery_file == TERMINAL and output is not Output.TABLE:
        raise Invalid("the recovery key is shown to a person alone", remedy="add --recovery-file FILE")
    if dry_run:
        key_acts.refuse_online(online)
        say(f"would write {online}, and the recovery key to {_named(recovery_file)}")
        return
    key_acts.refuse_online(online)
    with _recorded(data_dir, _wish("keys.init", online, "")) as done:
        made = key_acts.init(online, None if recovery_file == TERMINAL else recovery_file, datetime.now(UTC))
        assert made.recovery is not None
        signing = signing_key(Layout(data_dir).backup_keys / SIGNING).public
        done.update(online=made.online.public, recovery=made.recovery.public, signing=signing)
    views = [
        KeyView(
            name="online",
            key=made.online.public,
            recipient=False,
            here=True,
            file=str(online),
            signing=signing,
        ),
        KeyView(
            name="recovery",
            key=made.recovery.public,
            offline=True,
            recipient=False,
            file="" if recovery_file == TERMINAL else str(recovery_file.absolute()),
        ),
    ]
    if recovery_file == TERMINAL:
        _show(made.recovery_text, online)
    emit(output, views, _after_init(online, recovery_file, views))


def _show(recovery_text: str, online: Path) -> None:
    """Not by `say`, which hides what is secret. Raises Terminal where nobody can have seen it."""
    try:
        sys.stdout.write(f"{recovery_text}\n")
        sys.stdout.flush()
    except OSError as error:
        raise Terminal(
            f"the recovery key could not be shown, and is lost: {(error.strerror or str(error)).lower()}",
            remedy=f"remove {online}, and make both keys anew",
        ) from error


@app.command()
def rotate(  # noqa: PLR0917 - one parameter for each option
    online_file: OnlineFile = None,
    reason: Reason = "",
    break_glass: BreakGlass = "",
    dry_run: DryRun = False,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> None:
    """Make a new online key. The one before stays in the file, to open what was sealed for it.

    It takes a second person, where a Phoenix runs and somebody else may approve.
    """
    from phoenix_orch.recovery import key_acts, keys  # noqa: PLC0415

    online = _online(online_file, data_dir)
    if dry_run:
        keys.read(online)
        say(f"would make a new key in {online}, and keep those that are there")
        return
    before = keys.read(online)[0].public
    wish = _wish("keys.rotate", online, break_glass or reason, before)
    agree = asking(data_dir, reason=reason, break_glass=break_glass)
    wish = replace(wish, second=agree(wish.action, f"{wish.target} plan {before}"))
    with _recorded(data_dir, wish) as done:
        made = key_acts.rotate(online, datetime.now(UTC))
        done.update(online=made.online.public)
    view = KeyView(name="online", key=made.online.public, recipient=False, here=True, file=str(online))
    text = (
        f"a new key is the first in {online}\n\n"
        "put it into phoenix.yaml beside the one before, then `phoenix apply` and `phoenix keys check`:\n\n"
        f"{_recipient(f'online-{datetime.now(UTC):%Y%m%d}', made.online.public, offline=False)}\n"
        "take the one before out of phoenix.yaml once no backup needs it: after the longest retention"
    )
    emit(output, view, text)


@app.command()
def show(
    file: Config = None,
    online_file: OnlineFile = None,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> None:
    """Who can open backups, and whose private key is here. No private key is shown."""
    with working("reading the configuration"):
        from phoenix_orch.recovery import keys as _  # noqa: F401, PLC0415 - a second on a cold machine

        spec = _spec(file, data_dir)
    path = _identity_path(spec, online_file, data_dir)
    if spec is None:
        raise BadState(
            f"no section backup was applied here, so it is not known who can open backups; the online key is "
            f"{path if path.exists() else 'not made yet'}",
            remedy="name the file: `phoenix keys show -f phoenix.yaml`, or apply it first; "
            "`phoenix keys init` makes keys",
        )
    here = {one.public for one in _identities(path, needed=False)}
    views = [
        KeyView(
            name=one.name,
            key=one.key,
            offline=one.offline,
            here=one.key in here,
            file=str(path) if one.key in here else "",
        )
        for one in spec.recipients
    ]
    known = {view.key for view in views}
    views += [
        KeyView(name="", key=key, recipient=False, here=True, file=str(path))
        for key in sorted(here - known - {""})
    ]
    rows = [
        (
            view.name,
            "offline" if view.offline else "online",
            "yes" if view.recipient else "no",
            "here" if view.here else "elsewhere",
            view.key,
        )
        for view in views
    ]
    header = ("NAME", "KIND", "RECIPIENT", "PRIVATE KEY", "PUBLIC KEY")
    emit(output, views, columns(header, rows, empty="no keys: `phoenix keys init` makes them"))


@app.command()
def check(
    file: Config = None,
    online_file: OnlineFile = None,
    dry_run: DryRun = False,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> None:
    """Whether what is sealed for the recipients of now opens here: with a small object in the storage."""
    with working("reading the configuration"):
        from phoenix_orch.recovery import key_acts  # noqa: PLC0415
        from phoenix_orch.recovery.keys import Recipient  # noqa: PLC0415
        from phoenix_orch.recovery.storage import opened  # noqa: PLC0415
        from phoenix_orch.recovery.storage_mark import Marks  # noqa: PLC0415

        spec = _needed(_spec(file, data_dir))
    path = _identity_path(spec, online_file, data_dir)
    recipients = [Recipient(one.key, one.name, one.offline) for one in spec.recipients]
    storage = opened(spec.storage, Layout(data_dir).root / "backups")
    identities = _identities(path)
    marks = Marks(
        storage.objects,
        storage.where,
        Layout(data_dir).backup_state / "storages",
        _now,
        missing=storage.missing,
    )
    with working(f"asking {storage.where}"):
        marks.look()
        done = key_acts.check(storage.objects, recipients, identities, dry_run=True)
        if not dry_run:
            told = {"recipients": [one.text for one in recipients]}
            with _recorded(data_dir, replace(_wish("keys.check", path, ""), told=told)) as came:
                marks.use()
                done = key_acts.check(storage.objects, recipients, identities)
                came.update(openedBy=done.opened_by, renewed=done.renewed)
    view = CheckView(opened_by=done.opened_by, recipients=done.recipients, renewed=done.renewed)
    renewed = "; the canary was made anew for them" if done.renewed else ""
    emit(output, view, f"good: {done.recipients} recipients, opened with {done.opened_by}{renewed}")


class RekeyView(_View):
    """A backup that was sealed anew, or would be."""

    id: str
    component: str
    bytes: int
    """Of what is stored."""
    new: str = ""
    """Id of what it is now."""


@app.command()
def rekey(  # noqa: PLR0917 - one parameter for each option
    backups: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Ids of backups, or their beginnings.")
    ] = None,
    component: Annotated[
        str, typer.Option("--component", metavar="NAME", help="All of this component.")
    ] = "",
    every: Annotated[bool, typer.Option("--all", help="All backups.")] = False,
    identity: Annotated[
        Path | None,
        typer.Option(
            "--identity", "-i", metavar="FILE", help="Opens the old ones; left out: the online key."
        ),
    ] = None,
    reason: Reason = "",
    break_glass: BreakGlass = "",
    file: Config = None,
    dry_run: DryRun = False,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> None:
    """Seal stored backups anew for the recipients of now; those that are already are left alone.

    Each new one names its parent, which is removed a day later by retention. Once more after a crash goes on.
    It takes a second person, where a Phoenix runs and somebody else may approve: one for all of them.
    """
    from phoenix_orch.orchestrator.backups import Backups  # noqa: PLC0415 - half a second
    from phoenix_orch.recovery.rekey import Told, due  # noqa: PLC0415

    if bool(backups) + bool(component) + every != 1:
        raise Invalid("which backups?", remedy="give ids, or --component NAME, or --all")
    spec = _needed(_spec(file, data_dir))
    me = name_of(os.getuid())
    here = Backups(spec, Layout(data_dir), by=me)
    opening = _identities(identity) if identity is not None else here.identities
    if not opening:
        raise Invalid("there is no private key here to open backups with", remedy="name its file: --identity")
    chosen = [here.one(word) for word in backups or ()] or [
        one for view in here.views(component) for one in view.live
    ]
    found = due(chosen, here.recipients)
    views = [
        RekeyView(id=one.id, component=one.manifest.component, bytes=one.manifest.stream.stored_bytes)
        for one in found
    ]
    wish = Wish("keys.rekey", "backup/all", me, _plan(found, here.recipients), break_glass or reason)
    if found and not dry_run:
        agree = asking(data_dir, reason=reason, break_glass=break_glass)
        wish = replace(wish, second=agree(wish.action, f"{len(found)} backups plan {wish.plan}"))
    whole, before = sum(one.manifest.stream.raw_bytes for one in found), 0
    with (
        interruptible("what was sealed anew is there, the others are as they were; the same again goes on"),
        working("sealing anew") as show_piece,
    ):
        for one, view in zip(found if not dry_run else (), views, strict=False):
            with _recorded(data_dir, replace(wish, target=f"backup/{one.id}")) as done:
                told = Told(
                    sealing=lambda now, seen=before: show_piece(f"{seen + now:,} of {whole:,} bytes")  # type: ignore[misc]
                )
                view.new = here.rekeyer(opening).rekey(one, wish.reason, told).id
                done.update(new=view.new, recipients=[each.text for each in here.recipients])
            before += one.manifest.stream.raw_bytes
    rows = [(view.component, view.id, view.new or "would be made", f"{view.bytes:,}") for view in views]
    table = columns(
        ("COMPONENT", "OLD", "NEW", "BYTES"), rows, empty="all are sealed for the recipients of now already"
    )
    emit(output, views, table)


def _plan(backups: Sequence[Backup], recipients: Sequence[Recipient]) -> str:
    """The same for the same backups and recipients: what a second person agrees to."""
    told = {"backups": [one.sha256 for one in backups], "recipients": [one.text for one in recipients]}
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:HASH]


def _needed(spec: BackupSpec | None) -> BackupSpec:
    if spec is None:
        raise Invalid(
            "no backups are configured",
            remedy="`phoenix keys init` says what to put into phoenix.yaml; name it with -f, or apply it",
        )
    return spec


def _wish(action: str, online: Path, reason: str, before: str = "") -> Wish:
    """`before`: the public key that is the online one now."""
    return Wish(action, f"keys{online.absolute()}", name_of(os.getuid()), before, reason)


def _recorded(data_dir: Path, wish: Wish) -> AbstractContextManager[dict[str, Any]]:
    return recorded(Layout(data_dir), wish, tell=lambda text: tell(text, to=sys.stderr))


def _online(online_file: Path | None, data_dir: Path) -> Path:
    return (
        online_file.absolute() if online_file is not None else Layout(data_dir).root / "keys" / "online.key"
    )


def _identity_path(spec: BackupSpec | None, online_file: Path | None, data_dir: Path) -> Path:
    if online_file is None and spec is not None and spec.identity_file is not None:
        return Path(spec.identity_file)
    return _online(online_file, data_dir)


def _identities(path: Path, *, needed: bool = True) -> list[Identity]:
    from phoenix_orch.recovery import keys  # noqa: PLC0415

    if not needed and not path.exists():
        return []
    return keys.read(path, lambda: str(typer.prompt("passphrase", hide_input=True, err=True)))


def _spec(file: Path | None, data_dir: Path) -> BackupSpec | None:
    if file is None:
        reaching.here_only("keys and backups", "name its configuration with --file")
    config = load(file) if file is not None else read_kept(Layout(data_dir).config)
    return config.backup if config is not None else None


def _now() -> datetime:
    return datetime.now(UTC)


def _named(recovery_file: Path) -> str:
    return "the terminal" if recovery_file == TERMINAL else str(recovery_file.absolute())


def _recipient(name: str, key: str, *, offline: bool) -> str:
    line = f"    - name: {name}\n      key: {key}\n"
    return line + ("      offline: true\n" if offline else "")


def _after_init(online: Path, recovery_file: Path, views: list[KeyView]) -> str:
    where = (
        "The recovery key is the line AGE-SECRET-KEY-1… above, and nowhere else."
        if recovery_file == TERMINAL
        else f"The recovery key is in {recovery_file.absolute()}."
    )
    recipients = "".join(_recipient(view.name, view.key, offline=view.offline) for view in views)
    kept = (
        "Write it into a file, recovery.key, on a stick,\n"
        "or print it; put that into a safe, and a second one elsewhere."
        if recovery_file == TERMINAL
        else "Print it or copy it to a stick,\n"
        "put that into a safe, and a second one elsewhere; then remove the file from this machine."
    )
    return (
        f"{where} It opens every backup, also when this machine is lost. {kept}\n"
        f"The online key is in {online}: with it backups are verified here.\n"
        f"Manifests are signed as {views[0].signing}.\n"
        "Note that beside the recovery key: a machine that restores names it (backup.trustedKeys, or "
        "--signed-by).\n\n"
        f"put this into phoenix.yaml, then `phoenix apply`:\n\nbackup:\n  recipients:\n{recipients}\n"
        "next: `phoenix keys check`"
    )
