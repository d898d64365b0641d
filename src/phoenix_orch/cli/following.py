"""Following a rollout: a live view on a terminal, a line per change elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live

from phoenix_orch.cli import live
from phoenix_orch.cli.output import compressed, say, tell
from phoenix_orch.client.reads import Reads
from phoenix_orch.kernel.errors import Retryable
from phoenix_orch.kernel.text import plain
from phoenix_orch.orchestrator.views import RolloutView
from phoenix_orch.rollout.status import RESTING, State

INTERVAL = 0.5
"""Seconds between looks."""
PATIENCE = 15.0
"""Seconds that Phoenix may be away, for a restart, before following it ends."""
OK, ROLLED_BACK, TIMED_OUT = 0, 4, 5

Show = Callable[[RolloutView], None]


def settled(view: RolloutView) -> bool:
    """Nothing is on its way and nothing is about to be."""
    rollout, status = view.rollout, view.rollout.status
    if status.state not in RESTING or rollout.commands:
        return False
    if status.state is State.ROLLED_BACK:
        taken_back = status.cause.revision if status.cause is not None else None
        return rollout.target in {taken_back, status.canary}
    return status.stable == rollout.target


def exit_code(view: RolloutView) -> int:
    """4 where the release was taken back, else 0."""
    return ROLLED_BACK if view.rollout.status.state in (State.ROLLING_BACK, State.ROLLED_BACK) else OK


def follow(client: Reads, name: str, *, timeout: float | None, quiet: bool = False) -> int:
    """Show the rollout until it rests, and give the exit status. 5 when `timeout` seconds pass before."""
    end = None if timeout is None else time.monotonic() + timeout
    with _screen(quiet=quiet) as show:
        while True:
            view = _patiently(client, name)
            show(view)
            if settled(view):
                return exit_code(view)
            if end is not None and time.monotonic() >= end:
                return TIMED_OUT
            time.sleep(INTERVAL if end is None else min(INTERVAL, max(0.0, end - time.monotonic())))


def until_begun(client: Reads, name: str, revision: str) -> None:
    """Wait until the revision is wanted: in a cluster the orchestrator has to see its Deployment first.

    Raises Retryable when that takes too long.
    """
    end = time.monotonic() + PATIENCE
    while client.rollout(name).rollout.target != revision:
        if time.monotonic() >= end:
            raise Retryable(
                f"the release of {name} is asked for, and has not begun",
                remedy="look whether the orchestrator runs",
            )
        time.sleep(INTERVAL)


def _patiently(client: Reads, name: str) -> RolloutView:
    """The view, also across a restart of Phoenix or of its store."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return client.rollout(name)
        except Retryable:
            if time.monotonic() >= end:
                raise
            time.sleep(INTERVAL)


@contextmanager
def _screen(*, quiet: bool) -> Iterator[Show]:
    """A place to show views: redrawn on a terminal, appended to elsewhere, or nowhere."""
    if quiet:
        yield lambda _: None
        return
    console = Console()
    if not console.is_terminal or console.is_dumb_terminal:
        yield _appending()
        return
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as screen:
        yield _drawing(console, screen)


def _drawing(console: Console, screen: Live) -> Show:
    size = console.size

    def show(view: RolloutView) -> None:
        nonlocal size
        if console.size != size:  # the terminal has folded the last frame anew: nobody knows where it is
            size = console.size
            console.clear()
        screen.update(live.fitted(view, size.width, size.height), refresh=True)

    return show


def _appending() -> Show:
    last: object = None

    def show(view: RolloutView) -> None:
        nonlocal last
        key = live.change_key(view)
        if last is None and (clock := compressed(view.speed)):
            say(clock)
        if key != last:
            say(plain(live.line(view)))
            last = key

    return show


def note(text: str) -> None:
    """A word for the person that is no part of the output."""
    tell(text, to=sys.stderr)
