"""`phoenix completion`, and the names that Tab offers."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer
from typer.completion import get_completion_script  # type: ignore[attr-defined]

from phoenix_orch.cli.options import default_data_dir
from phoenix_orch.client import Client

TIMEOUT = 0.5
"""Seconds that a completion may wait for Phoenix."""


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
    """Names of rollouts or services; none when Phoenix does not answer at once."""
    before = ctx.find_root().obj if ctx is not None else None
    try:
        with Client(before or default_data_dir(), timeout=TIMEOUT) as client:
            if noun == "services":
                names = [view.name for view in client.services()]
            else:
                names = [view.rollout.name for view in client.rollouts()]
    except Exception:  # noqa: BLE001 - nothing may spoil the command line that is being typed
        return []
    return [name for name in names if name.startswith(incomplete)]
