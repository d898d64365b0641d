"""Options and arguments that several commands share. Imports nothing heavy."""

from __future__ import annotations

import os
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from phoenix_orch.kernel import files
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.orchestrator.limits import LONGEST_REASON

DATA_DIR_VARIABLE = "PHOENIX_DATA_DIR"
DEFAULT_FILE = Path("phoenix.yaml")
UNSET = Path()


@dataclass(frozen=True, slots=True)
class Server:
    """A Phoenix to ask that is not the one of a data directory."""

    url: str
    token: str | None


SERVER: ContextVar[Server | None] = ContextVar("server", default=None)
"""What --server said before the command."""


_LONGEST_TOKEN_FILE = 4096
_HOLDS_ONE = "name a file that holds one: phoenix token create NAME > FILE"


def serving(url: str | None, token_file: Path | None) -> Server | None:
    """Where to ask, by option or environment. Raises Invalid for a token that cannot be read."""
    url = url or os.environ.get("PHOENIX_URL") or None
    if url is None:
        if token_file is not None:
            raise Invalid("--token-file is for --server", remedy="name the server, or leave it out")
        return None
    if token_file is None:
        return Server(url, os.environ.get("PHOENIX_TOKEN") or None)
    try:
        read = files.read(token_file.expanduser(), at_most=_LONGEST_TOKEN_FILE, absent=_HOLDS_ONE)
        words = read.decode("ascii").split()
    except UnicodeDecodeError as error:
        raise Invalid(f"{token_file} cannot be read as a token", remedy=_HOLDS_ONE) from error
    if len(words) != 1:
        raise Invalid(f"{token_file} holds {len(words)} words, and a token is one", remedy=_HOLDS_ONE)
    return Server(url, words[0])


class Output(StrEnum):
    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def default_data_dir() -> Path:
    """PHOENIX_DATA_DIR, else `phoenix` below XDG_DATA_HOME, else ~/.local/share/phoenix."""
    given = os.environ.get(DATA_DIR_VARIABLE)
    if given:
        return Path(given).expanduser()
    base = os.environ.get("XDG_DATA_HOME", "")
    home = Path(base) if Path(base).is_absolute() else Path("~/.local/share").expanduser()
    return home / "phoenix"


def _keep(ctx: typer.Context, value: Path | None) -> Path | None:
    ctx.obj = value
    return value


def _resolve(ctx: typer.Context, value: Path) -> Path:
    """The nearest word counts: the command's own option, then the one before it, then the environment."""
    before = ctx.find_root().obj
    chosen = value if value != UNSET else before if isinstance(before, Path) else default_data_dir()
    return chosen.expanduser().absolute()


def complete(noun: str) -> Any:
    def names(ctx: typer.Context, incomplete: str) -> list[str]:
        """Names from the running Phoenix; nothing when there is none, a completion never complains."""
        from phoenix_orch.cli.completion import known_names  # noqa: PLC0415 - only when Tab is pressed

        return known_names(noun, ctx, incomplete)

    return names


def reason_checked(value: str) -> str:
    """Refused here, too: an abort past a dead Phoenix asks nobody else."""
    if len(value) > LONGEST_REASON:
        raise Invalid(
            f"a reason has {len(value)} characters",
            remedy=f"write at most {LONGEST_REASON}, and the rest where it belongs",
        )
    return value


_DATA_DIR_HELP = f"Where this Phoenix keeps everything. [env: {DATA_DIR_VARIABLE}]"

RootDataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", metavar="DIR", help=_DATA_DIR_HELP, callback=_keep, show_default=False),
]
RootServer = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="URL",
        help="Ask the Phoenix at this address, not the one of a data directory. [env: PHOENIX_URL]",
        show_default=False,
    ),
]
RootTokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help="Holds the token for --server. [env: PHOENIX_TOKEN, the token itself]",
        show_default=False,
    ),
]
DataDir = Annotated[
    Path,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help=_DATA_DIR_HELP,
        callback=_resolve,
        show_default="~/.local/share/phoenix",
    ),
]
File = Annotated[
    Path, typer.Option("--file", "-f", metavar="FILE", help="The configuration; - is standard input.")
]
OutputOption = Annotated[
    Output, typer.Option("--output", "-o", help="How to print it.", case_sensitive=False)
]
Reason = Annotated[
    str,
    typer.Option(
        "--reason",
        metavar="TEXT",
        help="Why; kept with the event.",
        show_default=False,
        callback=reason_checked,
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check everything and tell what would be done; do nothing.")
]
EvenIfUnattainable = Annotated[
    bool,
    typer.Option("--even-if-unattainable", help="Also when stable itself does not keep the limits."),
]
OverrideFreeze = Annotated[
    bool,
    typer.Option("--override-freeze", help="Wait for no freeze; takes the right to approve, and a --reason."),
]
RolloutName = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of the rollout.", autocompletion=complete("rollouts"))
]
ServiceName = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of the service.", autocompletion=complete("services"))
]
OptionalName = Annotated[
    str | None,
    typer.Argument(metavar="[NAME]", help="Name of the rollout.", autocompletion=complete("rollouts")),
]
OptionalService = Annotated[
    str | None,
    typer.Argument(metavar="[NAME]", help="Name of the service.", autocompletion=complete("services")),
]
Speed = Annotated[
    float,
    typer.Option(
        "--speed", metavar="N", min=0.01, max=10_000, help="Compress time: an hour lasts 1/N of an hour."
    ),
]
