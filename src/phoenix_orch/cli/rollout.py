"""`phoenix rollout`: start, steer, take back and explain releases."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phoenix_orch.cli import cluster, cluster_options, reaching
from phoenix_orch.cli.cluster_options import or_in_cluster
from phoenix_orch.cli.later import Later
from phoenix_orch.cli.options import (
    UNSET,
    DataDir,
    DryRun,
    EvenIfUnattainable,
    Output,
    OutputOption,
    OverrideFreeze,
    Reason,
    RolloutName,
)
from phoenix_orch.cli.output import changes, emit, say
from phoenix_orch.cli.reaching import reading
from phoenix_orch.cli.recorded import explain, observations
from phoenix_orch.kernel.errors import Invalid, NotFound, Retryable
from phoenix_orch.kernel.units import parse_duration
from phoenix_orch.orchestrator.cluster.access import Access
from phoenix_orch.rollout.commands import typed
from phoenix_orch.rollout.status import CommandKind
from phoenix_orch.workload.spec import has_port

if TYPE_CHECKING:
    from phoenix_orch.cli import aborting, following, obeying, pages, tables
else:
    aborting, following, obeying, pages, tables = map(
        Later, ("aborting", "following", "obeying", "pages", "tables")
    )

app = typer.Typer(
    name="rollout",
    help="Start, steer, take back and explain releases.",
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
)


def _timeout(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return parse_duration(text).total_seconds()
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _environment(words: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, word in enumerate(words, start=1):
        key, equals, value = word.partition("=")
        if not equals or not key:  # it is not repeated: it may be the value
            raise Invalid(
                f"--env number {number} is not KEY=VALUE", remedy="for example --env LOG_LEVEL=debug"
            )
        if key in found:
            raise Invalid(f"--env names {key} twice", remedy="give one value for each key")
        found[key] = value
    return found


def _command(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise Invalid(f"--command cannot be split into words: {error}", remedy="close every quote") from None
    if not has_port(words):
        raise Invalid(
            "--command has no '{port}'",
            remedy="Phoenix picks the port each instance listens on; write {port} for it",
        )
    return words


@app.command()
@or_in_cluster(log=True)
def start(  # noqa: PLR0917 - one parameter for each option
    name: RolloutName,
    version: Annotated[
        str | None, typer.Option("--version", metavar="V", help="Label of the new version.")
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option("--env", metavar="K=V", help="Laid over the environment; may be repeated."),
    ] = None,
    command: Annotated[
        str | None, typer.Option("--command", metavar="TEXT", help="The program, with {port} for its port.")
    ] = None,
    image: Annotated[
        list[str] | None,
        typer.Option(
            "--image",
            metavar="[CONTAINER=]IMAGE",
            help="With --kubernetes: the image of a container; its name may be left out where there is one."
            " May be repeated.",
        ),
    ] = None,
    reason: Reason = "",
    dry_run: DryRun = False,
    even_if_unattainable: EvenIfUnattainable = False,
    override_freeze: OverrideFreeze = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow the release to its end.")] = False,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
    *,
    there: Access | None = None,
) -> int:
    """Release another version, environment or command; in a cluster, another image.

    Everything else is taken from the stable revision. In a cluster the canary is a Deployment that is made
    from stable; one that is there gets the image.
    """
    if there is not None:
        given = {"--version": version, "--env": env, "--command": command}
        return _start_there(
            there,
            name,
            cluster.images(image or []),
            given,
            reason=reason,
            dry_run=dry_run,
            even_if_unattainable=even_if_unattainable,
            override_freeze=override_freeze,
            watch=watch,
            output=output,
        )
    cluster_options.only_in_cluster({"--image": image}, kubernetes=False)
    if version is None and not env and command is None:
        raise Invalid(
            "nothing to release: neither --version nor --env nor --command is given",
            remedy=f"for example: phoenix rollout start {name} --version 2",
        )
    wanted_env, wanted_command = _environment(env or []), _command(command)
    with reaching.client(data_dir) as client:
        change = client.start(
            name,
            version=version,
            env=wanted_env,
            command=wanted_command,
            change_cause=reason,
            dry_run=dry_run,
            even_if_unattainable=even_if_unattainable,
            override_freeze=override_freeze,
        )
        emit(output, change, changes([change], dry_run=dry_run))
        if not watch or dry_run:
            return following.OK
        return following.follow(client, name, timeout=None, quiet=output is not Output.TABLE)


def _start_there(
    there: Access,
    name: str,
    images: dict[str, str],
    given: Mapping[str, object],
    *,
    reason: str,
    dry_run: bool,
    even_if_unattainable: bool,
    override_freeze: bool,
    watch: bool,
    output: Output,
) -> int:
    if wrong := [option for option, value in given.items() if value]:
        raise Invalid(f"{wrong[0]} is not for a cluster", remedy="a release there is another --image")
    if not images:
        raise Invalid(
            "nothing to release: --image is not given",
            remedy=f"for example: phoenix rollout start {name} --kubernetes --image {name}=registry/{name}:2",
        )
    with reaching.cluster(there) as client:
        change = client.start(
            name,
            images,
            reason=reason,
            dry_run=dry_run,
            even_if_unattainable=even_if_unattainable,
            override_freeze=override_freeze,
        )
        emit(output, change, changes([change], dry_run=dry_run))
        if not watch or dry_run:
            return following.OK
        following.until_begun(client, name, change.revision)
        return following.follow(client, name, timeout=None, quiet=output is not Output.TABLE)


@app.command()
@or_in_cluster(log=True)
def status(
    name: RolloutName,
    wait: Annotated[bool, typer.Option("--wait", help="Until the release has ended.")] = False,
    timeout: Annotated[
        str | None,
        typer.Option("--timeout", metavar="DURATION", help="With --wait: at most so long; exit 5."),
    ] = None,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
    *,
    there: Access | None = None,
) -> int:
    """Where a rollout stands.

    Exit status 0; 4 when the release was rolled back; 5 when --timeout passed.
    """
    limit = _timeout(timeout)
    with reading(there, data_dir) as client:
        quiet = output is not Output.TABLE
        code = following.follow(client, name, timeout=limit, quiet=quiet) if wait else None
        view = client.rollout(name)
    told = code is not None  # while it was followed
    emit(output, view, pages.status(view), speed=1.0 if told else view.speed)
    return following.exit_code(view) if code is None else code


@app.command()
@or_in_cluster(log=True)
def watch(name: RolloutName, data_dir: DataDir = UNSET, *, there: Access | None = None) -> int:
    """Follow a rollout live until its release has ended.

    Ctrl-C ends the watching, not the release. Exit status as of `status`.
    """
    with reading(there, data_dir) as client:
        return following.follow(client, name, timeout=None)


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
@or_in_cluster()
def abort(  # noqa: PLR0917 - one parameter for each option
    name: RolloutName,
    reason: Reason = "",
    timeout: Annotated[
        str,
        typer.Option("--timeout", metavar="DURATION", help="How long to wait until it is seen to be done."),
    ] = "5s",
    dry_run: DryRun = False,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
    *,
    there: Access | None = None,
) -> None:
    """Take the release back now: all traffic to stable.

    Ends well when the revision is latched and the router is seen to send it nothing, and says what is
    missing otherwise. Works with Phoenix dead, too: then the traffic object itself is latched. With
    --kubernetes that is the first that is done, and nothing of Phoenix needs to run.
    """
    within = _timeout(timeout) or 0.0
    if there is not None:
        cluster.abort(there, name, reason, output, dry_run=dry_run)
        return
    if dry_run:
        taken = aborting.tried(data_dir, name)
    else:
        taken = aborting.take_back(data_dir, name, reason=reason, within=within)
    if output is not Output.TABLE or not taken.problem:
        emit(output, taken, aborting.text(taken))
    if taken.problem:
        raise Retryable(taken.problem, remedy=taken.remedy)


@app.command()
@or_in_cluster()
def undo(  # noqa: PLR0917 - one parameter for each option
    name: RolloutName,
    to_revision: Annotated[
        int | None,
        typer.Option("--to-revision", metavar="N", min=1, help="Its number in `phoenix get revisions`."),
    ] = None,
    reason: Reason = "",
    dry_run: DryRun = False,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
    *,
    there: Access | None = None,
) -> None:
    """Go back to the revision before, or to one by its number."""
    with reaching.client(data_dir) if there is None else reaching.cluster(there) as client:
        change = client.undo(name, to_revision=to_revision, reason=reason, dry_run=dry_run)
    emit(output, change, changes([change], dry_run=dry_run))


@app.command()
@or_in_cluster(log=True)
def history(
    name: RolloutName,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, max=1000, help="At most so many.")
    ] = 20,
    release: Annotated[
        int | None,
        typer.Option("--release", metavar="N", min=1, help="This one alone, with all that is known of it."),
    ] = None,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
    *,
    there: Access | None = None,
) -> None:
    """Releases that have ended, the newest first, and how."""
    with reading(there, data_dir) as client:
        found = client.history(name, limit=limit if release is None else 1000)
        speed = client.speed()
    if release is None:
        emit(output, found, tables.history(found), speed=speed)
        return
    one = [ended for ended in found if ended.number == release]
    if not one:
        known = ", ".join(str(ended.number) for ended in found[:10]) or "none"
        raise NotFound(f"{name} has no release {release}", remedy=f"releases that have ended: {known}")
    emit(output, one, pages.release(one[0]), speed=speed)


app.command()(explain)
app.command()(observations)


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
