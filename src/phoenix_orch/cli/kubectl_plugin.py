"""`kubectl phoenix …`: the command line as a plugin of kubectl, in the cluster that kubectl would take.

kubectl runs the program `kubectl-phoenix` with the words after `phoenix`, and `kubectl_complete-phoenix` with
them when Tab is pressed. It is the tree of `phoenix`, without what works on one machine alone, and
`--kubernetes` need not be said.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from typer.completion import completion_init  # type: ignore[attr-defined]

from phoenix_orch.cli import main as program
from phoenix_orch.cli.root import PROG, Root, command_tree
from phoenix_orch.cli.streams import readable_streams

KUBECTL_PROG = f"kubectl {PROG}"
WITHOUT_A_CLUSTER = ("crd", "version")
"""Commands that read nothing and are of use beside a cluster."""
NO_FILES = ":4"
"""The last line of a completion, as kubectl reads it: no names of files besides."""


def main() -> None:
    """The program `kubectl-phoenix`."""
    readable_streams()
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit status."""
    return program.run(arguments, tree=tree, prog=KUBECTL_PROG)


def complete() -> None:
    """The program `kubectl_complete-phoenix`: a value and its help a line, and then what else to offer.

    The last argument is what is being typed.
    """
    words = sys.argv[1:]
    typed = shlex.join(words) if words and words[-1] else f"{shlex.join(words[:-1])} "
    os.environ |= {
        program.COMPLETE_VARIABLE: "complete_fish",  # its format is that of kubectl
        "_TYPER_COMPLETE_ARGS": f"{PROG} {typed.lstrip()}",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    completion_init()
    offered = io.StringIO()
    with contextlib.redirect_stdout(offered):
        run([])
    print("\n".join([*filter(None, offered.getvalue().splitlines()), NO_FILES]))


def tree() -> Any:
    """The commands that work in a cluster, where they do without being told to."""
    root = command_tree()
    return Plugin(
        name=root.name,
        help=root.help,
        epilog=root.epilog.replace(PROG, KUBECTL_PROG),
        context_settings=root.context_settings,
        rich_markup_mode=None,
    )


class Plugin(Root):
    """The first level. What is behind a name decides whether the name is there."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for name in super().list_commands(ctx) if self.get_command(ctx, name) is not None]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = super().get_command(ctx, cmd_name)
        return command if command is None or cmd_name in WITHOUT_A_CLUSTER else in_cluster(command)


def in_cluster(command: Any) -> Any:
    """The command with `--kubernetes` as its default; None where it has no such option, nor any below it."""
    options = {option.name: option for option in command.params}
    if "kubernetes" in options:
        options["kubernetes"].default = True
        for name in ("kubernetes", "data_dir"):
            if name in options:
                options[name].hidden = True
        return command
    below = {name: in_cluster(one) for name, one in getattr(command, "commands", {}).items()}
    if not (kept := {name: one for name, one in below.items() if one is not None}):
        return None
    command.commands = kept
    return command
