"""`phoenix rollout start`: release another version, here or in a cluster."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
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
from phoenix_orch.cli.output import changes, emit
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.orchestrator.cluster.access import Access
from phoenix_orch.workload.spec import has_port

if TYPE_CHECKING:
    from phoenix_orch.cli import following
else:
    following = Later("following")


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
    wanted_env = _environment(env or [])
    wanted_command = _command(command, wanted_env)
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


def _command(text: str | None, env: Mapping[str, str]) -> tuple[str, ...] | None:
    if text is None:
        return None
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise Invalid(f"--command cannot be split into words: {error}", remedy="close every quote") from None
    if not has_port([*words, *env.values()]):
        raise Invalid(
            "--command has no '{port}'",
            remedy="Phoenix picks the port each instance listens on; write {port} for it",
        )
    return words
