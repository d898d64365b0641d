"""`phoenix completion`, and the names that Tab offers."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.completion import get_completion_script  # type: ignore[attr-defined]

from phoenix_orch.cli.cluster_options import access
from phoenix_orch.cli.options import default_data_dir
from phoenix_orch.client import Client

TIMEOUT = 0.5
"""Seconds that a completion may wait for Phoenix."""
CLUSTER_TIMEOUT = 5.0
"""And for the API server of a cluster, which may be far away."""


NAMES: Mapping[str, Callable[[Client], list[str]]] = {
    "rollouts": lambda client: [view.rollout.name for view in client.rollouts()],
    "services": lambda client: [view.name for view in client.services()],
    "tasks": lambda client: [record.id for record in client.tasks().items],
    "kinds of tasks": lambda client: [one.kind for one in client.task_kinds()],
    "schedules": lambda client: [view.name for view in client.schedules()],
    "freezes": lambda client: [view.freeze.name for view in client.freezes()],
    "tokens": lambda client: [view.id for view in client.tokens()],
}
"""What Tab offers of each noun."""


class Shell(StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(shell: Annotated[Shell, typer.Argument(help="Which shell.")]) -> None:
    """Print the completion script of a shell.

    bash: source <(phoenix completion bash) · zsh: the same in .zshrc after compinit ·
    fish: phoenix completion fish | source
    """
    print(get_completion_script(prog_name="phoenix", complete_var="_PHOENIX_COMPLETE", shell=shell.value))


def known_names(noun: str, ctx: Any, incomplete: str) -> list[str]:
    """Names of what `noun` says; none when Phoenix, or the cluster, does not answer at once."""
    given = ctx.params if ctx is not None else {}
    try:
        if given.get("kubernetes"):
            names = _in_cluster(given) if noun == "rollouts" else []
        else:
            names = _of_phoenix(noun, ctx.find_root().obj if ctx is not None else None)
    except Exception:  # noqa: BLE001 - nothing may spoil the command line that is being typed
        return []
    return [name for name in names if name.startswith(incomplete)]


def _of_phoenix(noun: str, data_dir: Path | None) -> list[str]:
    with Client(data_dir or default_data_dir(), timeout=TIMEOUT) as client:
        return NAMES[noun](client)


def _in_cluster(given: Mapping[str, Any]) -> list[str]:
    """Rollouts of the namespace that was typed so far. It takes a second to import what asks for them."""
    there = access(
        **{name: given.get(name) for name in ("namespace", "kubeconfig", "context")}, kubernetes=True
    )
    listing = importlib.import_module("phoenix_orch.orchestrator.cluster.listing")
    return list(listing.names(there, within=CLUSTER_TIMEOUT))
