"""The command tree, loaded branch by branch: `phoenix --help` imports Typer and this file only.

Names and one-line helps of the first level stand here; the module behind a name is imported when the
name is used. A test holds the helps equal to what the modules say.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from phoenix_orch.cli.options import SERVER, RootDataDir, RootServer, RootTokenFile, serving

PROG = "phoenix"


@dataclass(frozen=True, slots=True)
class Branch:
    """Where a command lives: a function, or a Typer application with commands of its own."""

    module: str
    attribute: str
    help: str


SECTIONS: Mapping[str, Mapping[str, Branch]] = {
    "Begin": {
        "init": Branch("start", "init", "Write a commented phoenix.yaml to start from."),
        "validate": Branch("start", "validate", "Check a phoenix.yaml; change nothing."),
        "demo": Branch("process", "demo", "Release a good version and three bad ones, live."),
        "doctor": Branch(
            "doctor", "doctor", "Tell what is installed, what runs, and what to do about faults."
        ),
    },
    "Run": {
        "up": Branch("process", "up", "Run Phoenix in the foreground, with the services of a file."),
        "down": Branch("process", "down", "End in order what a Phoenix that died left behind."),
        "console": Branch("console", "console", "Print an address that lets a browser into the console."),
        "serve": Branch("process", "serve", "Run one component in a process of its own."),
    },
    "Release": {
        "apply": Branch("apply", "apply", "Make a phoenix.yaml what is wanted, or nothing of it."),
        "rollout": Branch("rollout", "app", "Start, steer, take back and explain releases."),
        "freeze": Branch("freeze", "app", "Begin, end and list times in which no release begins."),
        "service": Branch("service", "app", "List services, read their logs, restart them."),
        "task": Branch("task", "app", "Run, watch, cancel and schedule durable tasks."),
    },
    "Look": {
        "get": Branch("get", "app", "List rollouts, services, revisions, events, groups, config."),
        "top": Branch("top", "top", "What is releasing, what is wrong and what is due, live."),
        "audit": Branch("audit", "app", "What was done by whom: list, verify, export, prune."),
        "describe": Branch("describe", "app", "Show everything about one rollout."),
        "status-page": Branch("status_page", "app", "Write the public status page."),
        "report": Branch("report", "app", "What releases came to over some time."),
    },
    "Guard": {
        "token": Branch("token", "app", "Make, list and revoke API tokens."),
        "keys": Branch(
            "keys",
            "app",
            "Make, show, check, rotate keys of backups, and rekey these.",
        ),
        "approval": Branch("approval", "app", "Agree, as a second person, to what destroys, or refuse it."),
    },
    "Recover": {
        "backup": Branch("backup", "app", "Take, list, verify, pin, prune and open backups."),
        "restore": Branch("restore", "app", "Put back what was backed up: plan first, then run."),
        "drill": Branch("drill", "app", "Rehearse recovery, and show how it went."),
        "verify-state": Branch("verify_state", "verify_state", "Check that the state of Phoenix is whole."),
    },
    "Judge": {
        "plan": Branch("plan", "plan", "How long each phase needs to prove its limits."),
        "replay": Branch("replay", "replay", "What a policy would have done on recorded releases."),
        "calibrate": Branch(
            "calibrate", "calibrate", "Release stable against itself: false rollbacks and dispersion."
        ),
    },
    "Tool": {
        "schema": Branch("start", "schema", "Print the JSON Schema of phoenix.yaml."),
        "crd": Branch("start", "crd", "Print the definition of the Rollout resource for Kubernetes."),
        "completion": Branch("completion", "completion", "Print the completion script of a shell."),
        "version": Branch("version", "version", "Print the version."),
    },
}
BRANCHES: Mapping[str, Branch] = {
    name: branch for section in SECTIONS.values() for name, branch in section.items()
}


def load(name: str) -> Any:
    """The command behind a name of the first level."""
    branch = BRANCHES[name]
    found = getattr(importlib.import_module(f"phoenix_orch.cli.{branch.module}"), branch.attribute)
    command = typer.main.get_command(found if isinstance(found, typer.Typer) else _alone(found))
    command.name = name
    return command


def _alone(function: Callable[..., Any]) -> typer.Typer:
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(function)
    return app


class Root(TyperGroup):
    """The first level, without importing what is behind it before it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the signature of the library
        return list(BRANCHES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        return load(cmd_name) if cmd_name in BRANCHES else None

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        there = self.list_commands(ctx)
        for title, branches in SECTIONS.items():
            shown = [(name, branch.help) for name, branch in branches.items() if name in there]
            if shown:
                with formatter.section(title):
                    formatter.write_dl(shown, col_max=12)


app = typer.Typer(
    name=PROG,
    cls=Root,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="`phoenix COMMAND --help` shows the options of a command.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        importlib.import_module("phoenix_orch.cli.version").version()
        raise typer.Exit


@app.callback()
def root(
    data_dir: RootDataDir = None,
    server: RootServer = None,
    token_file: RootTokenFile = None,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    """Ship a release a little at a time, prove it healthy, take it back when it is not."""
    del data_dir, version  # their callbacks have done what there is to do
    SERVER.set(serving(server, token_file))


def command_tree() -> Any:
    """The whole command line as one command object."""
    return typer.main.get_command(app)
