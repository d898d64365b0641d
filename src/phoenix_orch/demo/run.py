"""The demo from its first line to its exit status."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from phoenix_orch.demo import figures
from phoenix_orch.demo.machine import busy, too_busy
from phoenix_orch.demo.output import LiveOutput, Output, PlainOutput
from phoenix_orch.demo.place import fresh_place
from phoenix_orch.demo.report import as_json, summary
from phoenix_orch.demo.scenario import BAKE, DEFAULT_RATE, DEFAULT_SPEED, SERVICE, Planned, check_pace, chosen
from phoenix_orch.demo.screen import Scene
from phoenix_orch.demo.stage import Stage, stage
from phoenix_orch.demo.story import Story, deadline, found, outcome_text
from phoenix_orch.kernel.errors import BadState, Invalid
from phoenix_orch.orchestrator.views import Change, RolloutView
from phoenix_orch.rollout.spec import RolloutSpec
from phoenix_orch.rollout.status import RESTING

_LOOK_SECONDS = 0.25
_REST_SECONDS = 1.5
"""Between two releases, to let a spectator see how the last one ended."""
_PATIENCE_SECONDS = 60.0
"""Longest wait until the shop itself keeps the limits."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_demo(
    *,
    speed: float = DEFAULT_SPEED,
    data_dir: Path | None = None,
    releases: Sequence[str] = (),
    plain: bool = False,
    report_json: Path | None = None,
    keep: bool = False,
    rate: float = DEFAULT_RATE,
    console: Console | None = None,
) -> int:
    """Play the releases (`good`, `errors`, `slow`, `crash`; none named: all) and say what came of them.

    `speed`: seconds of the guide in one real second. `data_dir`: a new or empty directory, kept at the
    end; None: one of its own, removed unless `keep`. `rate`: users' requests per second.
    Returns 0 when every release ended as expected, else 1; 128 + the signal's number when a signal
    ended it. Raises PhoenixError (Invalid: nothing was started).
    """
    planned = chosen(releases)
    check_pace(speed, rate)
    if report_json is not None:
        _refuse_unwritable(report_json)
    screen = console or Console(highlight=False)
    output: Output = PlainOutput(screen) if plain or not screen.is_terminal else LiveOutput(screen)
    stories: list[Story] = []
    play = _Play(
        directory=data_dir,
        planned=planned,
        speed=speed,
        rate=rate,
        keep=keep or data_dir is not None,
        output=output,
        stories=stories,
    )
    try:
        status = asyncio.run(_until_signal(play))
        if status == 0:
            screen.print(Text(), summary(stories, speed=speed, note=busy()))
        else:
            screen.print("Stopped. Nothing of it is left running.")
    except OSError as error:
        if not _output_gone(error):
            raise
        _silence()
        status = 1
    finally:
        if report_json is not None:
            report = as_json(stories, speed=speed, rate=rate)
            report_json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return status or (1 if any(story.faults for story in stories) else 0)


@dataclass
class _Play:
    """One run of the demo."""

    directory: Path | None
    planned: Sequence[Planned]
    speed: float
    rate: float
    keep: bool
    output: Output
    stories: list[Story]

    async def run(self) -> None:
        self.output.say(_greeting(self.speed, self.rate))
        with fresh_place(directory=self.directory, keep=self.keep) as root:
            if self.keep:
                self.output.say(Text(f"The demo keeps its files in {root}"))
            with self.output:
                await self._play(root)

    async def _play(self, root: Path) -> None:
        scene = Scene(releases=self.planned, speed=self.speed)

        def say(message: str) -> None:
            scene.message = message
            self.output.show(scene)

        async with stage(root, speed=self.speed, rate=self.rate, keep=self.keep, say=say) as running:
            scene.address = running.address
            for number, planned in enumerate(self.planned):
                scene.current = number
                story = await self._release(running, scene, planned)
                scene.good.append(not story.faults)
                self.output.say(_result(story))
            scene.view = None
            say("ending Phoenix, the shop and its users")

    async def _release(self, running: Stage, scene: Scene, planned: Planned) -> Story:
        began = time.monotonic()
        before = await running.ask(lambda phoenix: phoenix.rollout(SERVICE))
        change = await self._begun(running, planned)
        story = Story(planned, change.revision, running.users, began)
        self.stories.append(story)
        limit = began + deadline(before).total_seconds() / self.speed + 30.0
        while time.monotonic() < limit and story.release is None:
            view = await self._look(running, scene, story)
            if view.rollout.status.state in RESTING:
                history = await running.ask(lambda phoenix: phoenix.history(SERVICE, limit=5))
                if release := found(history, story.revision, before.at):
                    story.end(release)
            await asyncio.sleep(_LOOK_SECONDS)
        end = time.monotonic() + _REST_SECONDS
        while time.monotonic() < end:
            await self._look(running, scene, story)  # failures that users report late belong to it
            await asyncio.sleep(_LOOK_SECONDS)
        return story

    async def _begun(self, running: Stage, planned: Planned) -> Change:
        """Begin the release. On a busy machine the shop is slow with nothing wrong, and Phoenix refuses to
        release what no version could keep: that is waited for. Raises Terminal where it stays so."""
        limit = time.monotonic() + _PATIENCE_SECONDS
        waiting = False
        while True:
            try:
                return await running.ask(
                    lambda phoenix: phoenix.start(
                        SERVICE,
                        version=planned.version,
                        env={"SHOP_FAULT": planned.fault} if planned.fault else None,
                        change_cause=f"demo: {planned.title}",
                    )
                )
            except BadState as error:
                if time.monotonic() > limit:
                    raise too_busy(
                        f"the shop that serves has nothing wrong, and Phoenix says: {error.message}"
                    ) from error
                if not waiting:
                    self.output.say(
                        Text(f"waiting for this machine to be less busy: {error.message}", "yellow")
                    )
                    waiting = True
            await asyncio.sleep(_LOOK_SECONDS)

    async def _look(self, running: Stage, scene: Scene, story: Story) -> RolloutView:
        view = await running.ask(lambda phoenix: phoenix.rollout(SERVICE))
        scene.events = await running.ask(lambda phoenix: phoenix.events(SERVICE, limit=30))
        scene.view, scene.users, scene.rate = view, running.users, running.rate
        story.see(view, running.users, time.monotonic())
        scene.release_users = story.users
        self.output.show(scene)
        return view


def _refuse_unwritable(file: Path) -> None:
    """Said before the three minutes, and not after them."""
    try:
        with file.open("a", encoding="utf-8"):
            pass
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise Invalid(
            f"{file} cannot be written: {reason}", remedy="name another file with --report"
        ) from None


async def _until_signal(play: _Play) -> int:
    """Run the play; a signal ends it in good order. Returns 0, or 128 + the signal's number."""
    loop = asyncio.get_running_loop()
    task = loop.create_task(play.run(), name="demo")
    got: list[int] = []

    def interrupt(number: int) -> None:
        if not got:
            task.cancel()
        got.append(number)

    for number in _SIGNALS:
        loop.add_signal_handler(number, interrupt, number)
    try:
        await task
    except asyncio.CancelledError:
        if not got:
            raise
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
    return 128 + got[0] if got else 0


def _greeting(speed: float, rate: float) -> Text:
    walk = sum((step.duration for step in RolloutSpec().steps()), BAKE)
    text = Text()
    text.append("Phoenix releases a shop on this machine", style="bold")
    text.append(
        f" with the guide's phases ({figures.clock(walk)} with bake) at speed {speed:g}:"
        f" one minute lasts {60 / speed:.1f} s. {rate:g} requests per second come from users."
    )
    return text


def _result(story: Story) -> Text:
    release = story.release
    name = f"{story.planned.name} (v{story.planned.version})"
    if release is None:
        return Text(f"✗ {name}: did not come to an end in time", style="bold red")
    if story.faults:
        return Text(f"✗ {name}, not as expected: {'; '.join(story.faults)}", style="red")
    text = Text(f"✓ {name} ", style="green")
    text.append(outcome_text(release.outcome), style="bold")
    text.append(f" in {story.seconds:.0f} s, users saw {story.users.failed} failed requests: ")
    text.append(release.reason, style="dim")
    return text


def _output_gone(error: OSError) -> bool:
    """The terminal was closed, or nobody reads the pipe any more."""
    return isinstance(error, BrokenPipeError) or error.errno == errno.EIO


def _silence() -> None:
    """Whatever is still buffered for an output that is gone goes nowhere, without complaint."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
