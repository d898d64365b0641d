"""A second person for what a command destroys: asked where Phoenix runs, and never in the way of a night.

Whoever owns the machine could remove the files as well. So this does not lock them out: it has them ask where
somebody can be asked, and everybody sees afterwards what was done without.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from phoenix_orch.cli import reaching
from phoenix_orch.cli.options import reason_checked
from phoenix_orch.cli.output import tell
from phoenix_orch.kernel.errors import Unavailable
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.recovery.restore.acts import Second

PATIENCE = 5.0
"""Seconds for an answer of Phoenix."""
BreakGlass = Annotated[
    str,
    typer.Option(
        "--break-glass",
        metavar="REASON",
        help="Go on without a second person; recorded, and shown to all.",
        show_default=False,
        callback=reason_checked,
    ),
]


def asking(data_dir: Path, *, reason: str, break_glass: str) -> Callable[[str, str], Second]:
    """What asks a second person about an action on a target, and says what came of it.

    It raises BadState while nobody has agreed. Where no Phoenix runs nobody can be asked, and it goes on.
    """

    def agree(action: str, target: str) -> Second:
        if break_glass:
            tell(f"BREAK GLASS: {action} of {target} goes on without a second person, and all will see it")
            return Second.BROKEN_GLASS
        try:
            with reaching.client(data_dir, timeout=PATIENCE) as client:
                found = client.second_person(action, target, reason=reason)
        except Unavailable:
            if not Layout(data_dir).made and not reaching.elsewhere():
                return Second.NOT_WANTED
            tell(f"Phoenix does not answer, so nobody is asked about {action} of {target}; that is recorded")
            return Second.UNASKED
        return Second.APPROVED if found.wanted else Second.NOT_WANTED

    return agree
