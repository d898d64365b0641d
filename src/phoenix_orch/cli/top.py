"""`phoenix top`: what is releasing, what is wrong and what is due, live in a terminal."""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from phoenix_orch.cli import top_frame
from phoenix_orch.cli.cluster_options import or_in_cluster
from phoenix_orch.cli.options import UNSET, DataDir
from phoenix_orch.cli.reaching import reading
from phoenix_orch.cli.terminal_keys import read_keys, single_keys
from phoenix_orch.cli.top_frame import Picture, Place
from phoenix_orch.client import Client
from phoenix_orch.client.reads import Reads
from phoenix_orch.kernel.errors import PhoenixError
from phoenix_orch.orchestrator.cluster.access import Access

INTERVAL = 1.0
"""Seconds between two looks."""
SHARE = 4
"""So many times as long as a look took nobody looks again: many rollouts are looked at less often."""
WHOLE = 8
"""Releases that are looked at one by one where a list does not tell all of them, as in a cluster."""
RESIZE = 0.25
"""Seconds after which another size of the terminal is noticed."""


@or_in_cluster(log=True)
def top(
    once: Annotated[bool, typer.Option("--once", help="Print one frame and end.")] = False,
    data_dir: DataDir = UNSET,
    *,
    there: Access | None = None,
) -> None:
    """What is releasing, what is wrong and what is due, live.

    j and k select, Enter shows details, ? helps, q quits. Into a pipe one frame is printed.
    """
    console = Console()
    if once or not console.is_terminal or console.is_dumb_terminal:
        with reading(there, data_dir) as client:
            picture = look(client)
        console.print(top_frame.frame(picture, Place(), console.width, None))
        return
    _live(console, there, data_dir)


def look(client: Reads) -> Picture:
    """Everything at once. Raises what the client raises."""
    views = client.rollouts()
    short = [at for at, view in enumerate(views) if view.traffic is None and view.rollout.status.canary]
    for at in short[:WHOLE]:
        views[at] = client.rollout(views[at].rollout.name)
    health = client.health() if isinstance(client, Client) else {}
    return Picture(
        views=tuple(views),
        freezes=tuple(client.freezes()),
        components=tuple(health.get("components", ())),
        at=max((view.at for view in views), default=None),
    )


class Looking(threading.Thread):
    """Looks again and again, so that keys are obeyed while an answer is awaited."""

    def __init__(self, there: Access | None, data_dir: Path) -> None:
        super().__init__(name="phoenix top", daemon=True)
        self._there = there
        self._data_dir = data_dir
        self._ended = threading.Event()
        self.picture = Picture()
        self.failed: BaseException | None = None
        self.changed, self._change = os.pipe()
        """Readable when there is something new."""

    def run(self) -> None:
        try:
            with reading(self._there, self._data_dir) as client:
                self._look_on(client)
        except Exception as error:  # noqa: BLE001 - raised again where the terminal is in order
            self.failed = error
            self._say()

    def _look_on(self, client: Reads) -> None:
        self.picture = look(client)  # the first one has to succeed: nothing to show without it
        self._say()
        took = 0.0
        while not self._ended.wait(max(INTERVAL, SHARE * took)):
            began = time.monotonic()
            try:
                self.picture = look(client)
            except PhoenixError as error:
                self.picture = replace(self.picture, trouble=error.message)
            took = time.monotonic() - began
            self._say()

    def _say(self) -> None:
        os.write(self._change, b".")

    def heard(self) -> None:
        os.read(self.changed, 64)

    def end(self) -> None:
        """It is a daemon: an answer that is still awaited keeps nobody."""
        self._ended.set()


def _live(console: Console, there: Access | None, data_dir: Path) -> None:
    looking = Looking(there, data_dir)
    looking.start()
    try:
        with _keys() as keys:
            select.select([looking.changed], [], [])
            if looking.failed is None:
                with Live(console=console, screen=True, auto_refresh=False) as screen:
                    _show(console, screen, looking, keys)
        if looking.failed is not None:
            raise looking.failed
    finally:
        looking.end()


@contextmanager
def _keys() -> Iterator[int | None]:
    """Where keys come from; None: from nowhere, and Ctrl-C ends it."""
    descriptor = sys.stdin.fileno() if sys.stdin.isatty() else None
    with single_keys(descriptor) if descriptor is not None else nullcontext():
        yield descriptor


def _show(console: Console, screen: Live, looking: Looking, keys: int | None) -> None:
    """Draw when something changed, and only then."""
    place: Place | None = Place()
    watched = [looking.changed] if keys is None else [looking.changed, keys]
    drawn: object = None
    while place is not None and looking.failed is None:
        size = console.size
        now = (looking.picture, place, size)
        if now != drawn:
            picture = looking.picture
            screen.update(top_frame.frame(picture, place, size.width, size.height), refresh=True)
            drawn = now
        ready, _, _ = select.select(watched, [], [], RESIZE)
        if looking.changed in ready:
            looking.heard()
        if keys in ready and keys is not None:
            for key in read_keys(keys):
                place = top_frame.pressed(place, key, looking.picture.views) if place is not None else None
