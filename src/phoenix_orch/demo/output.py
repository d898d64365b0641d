"""Where the demo shows itself: a live picture on a terminal, or one line per change anywhere else."""

from __future__ import annotations

import errno
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from phoenix_orch.demo.screen import Picture, Scene
from phoenix_orch.rollout.status import Event


class Output(Protocol):
    """What the demo needs of a place to show itself."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, scene: Scene) -> None:
        """The scene has changed, or time has passed."""
        ...

    def say(self, what: RenderableType) -> None:
        """Something that stays in the scroll-back."""
        ...


class LiveOutput:
    """The picture is drawn in place; what is said stays above it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True, vertical_overflow="crop")

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, scene: Scene) -> None:
        if not self._console.is_terminal:  # Rich would draw no more, and nobody would ever notice
            raise OSError(errno.EIO, "the terminal was closed")
        self._live.update(Picture(scene), refresh=True)

    def say(self, what: RenderableType) -> None:
        self._console.print(what)


class PlainOutput:
    """Events as they come, and verdicts when they change."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._message = ""
        self._verdict = ""
        self._events: set[Event] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def show(self, scene: Scene) -> None:
        if scene.view is None:
            if scene.message != self._message:
                self._message = scene.message
                self._line(scene.message)
            return
        name = scene.releases[scene.current].name if scene.current >= 0 else scene.view.rollout.service
        for event in _fresh(scene.events, self._events):
            self._line(f"{name}: {event.reason}: {event.message}{_numbers(scene)}")
        verdict = scene.view.verdict
        if verdict is not None and verdict.revision == scene.view.rollout.status.canary:
            word = f"{verdict.revision} {verdict.kind.value}"
            if word != self._verdict:
                self._verdict = word
                self._line(f"{name}: verdict {verdict.kind.value}: {verdict.reason}")

    def say(self, what: RenderableType) -> None:
        self._console.print(what)

    def _line(self, text: str) -> None:
        seconds = time.monotonic() - self._began
        self._console.print(Text(f"{seconds:7.1f} s  {text}"), soft_wrap=True)


def _fresh(events: Sequence[Event], known: set[Event]) -> list[Event]:
    fresh = [event for event in events if event not in known]
    known.update(fresh)
    return fresh


def _numbers(scene: Scene) -> str:
    return f" [{scene.rate:.0f} requests/s, {scene.release_users.failed} failed in this release]"
