"""The demo as a whole: it tells good from bad, and however it ends nothing of it stays behind."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

PROGRAM = """
import sys
from pathlib import Path
from phoenix_orch.demo.run import run_demo
name, report, plain = sys.argv[1:]
sys.exit(run_demo(speed=40, releases=[name], plain=plain == "plain", report_json=Path(report)))
"""


def until(condition: Callable[[], bool], what: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} s: {what}")
        time.sleep(0.05)


class Demo:
    """Demos of one test: their cache is the test's own, so everything they start can be told apart."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.cache = directory / "c" / "phoenix-demo"
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, *, cwd: Path | None = None, terminal: int | None = None) -> Running:
        report = self.directory / f"report-{len(self.started)}.json"
        output = self.directory / f"output-{len(self.started)}"
        mode = "plain" if terminal is None else "live"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", PROGRAM, name, str(report), mode],
                cwd=cwd or self.directory,
                env={**os.environ, "XDG_CACHE_HOME": str(self.cache.parent), "TERM": "xterm"},
                stdin=terminal if terminal is not None else subprocess.DEVNULL,
                stdout=terminal if terminal is not None else file,
                stderr=file,
                start_new_session=True,
            )
        self.started.append(process)
        return Running(process, report, output)

    def left(self) -> list[str]:
        """Whatever runs and has to do with this test."""
        found = []
        own = [process.pid for process in self.started if process.poll() is None]
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.pid in (os.getpid(), *own) or process.status() == psutil.STATUS_ZOMBIE:
                    continue
                words = [*process.cmdline(), *process.environ().values(), process.cwd()]
                if any(str(self.cache) in word for word in words):
                    found.append(" ".join(process.cmdline()))
        return found

    def files(self) -> list[str]:
        return sorted(path.name for path in self.cache.iterdir())


class Running:
    """One demo."""

    def __init__(self, process: subprocess.Popen[bytes], report: Path, output: Path) -> None:
        self.process, self._report, self._output = process, report, output

    def text(self) -> str:
        return self._output.read_text(encoding="utf-8")

    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._report.read_text())
        return found

    def until_released(self) -> None:
        until(
            lambda: "% seen on the data plane" in self.text() or self.process.poll() is not None,
            "a canary gets traffic",
            60,
        )
        assert self.process.poll() is None, self.text()


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    demo = Demo(tmp_path)
    yield demo
    for process in demo.started:
        with process:
            process.kill()
    until(lambda: not demo.left(), "the guards have ended everything", 30)


@pytest.mark.slow
def test_two_demos_at_once_judge_rightly_and_leave_nothing(demo: Demo, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "phoenix_orch.py").write_text("raise SystemExit('this is not the Phoenix that is meant')")
    errors, crash = demo.start("errors"), demo.start("crash", cwd=elsewhere)
    assert errors.process.wait(90) == 0, errors.text()
    assert crash.process.wait(90) == 0, crash.text()
    (line,) = errors.report()["releases"]
    assert (line["outcome"], line["faults"]) == ("rolledBack", [])
    assert line["canaryErrors"] > 0
    assert re.search(
        r"✗ error rate .* of \d+ requests in \S+ \(limit: at most 0\.1 %; stable 0 %\)", errors.text()
    )
    (line,) = crash.report()["releases"]
    assert (line["outcome"], line["faults"]) == ("rolledBack", [])
    assert len(line["exits"]) >= 1
    assert demo.left() == []
    assert demo.files() == [".lock"]


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)]
)
def test_a_signal_ends_the_demo_and_leaves_nothing(demo: Demo, number: signal.Signals) -> None:
    running = demo.start("good")
    running.until_released()
    running.process.send_signal(number)
    assert running.process.wait(40) == 128 + number
    assert demo.left() == []
    assert demo.files() == [".lock"]
    assert "Traceback" not in running.text()


def test_a_signal_at_the_start_leaves_nothing(demo: Demo) -> None:
    running = demo.start("good")
    until(lambda: "starting Phoenix" in running.text(), "the demo starts", 20)
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(40) == 128 + signal.SIGTERM
    assert demo.left() == []
    assert demo.files() == [".lock"]


def test_kill_9_leaves_nothing_either(demo: Demo) -> None:
    running = demo.start("good")
    running.until_released()
    running.process.kill()
    running.process.wait(10)
    until(lambda: demo.left() == [], "the guard has ended everything", 30)
    until(lambda: demo.files() == [".lock"], "the guard has removed the files", 10)


def test_a_closed_terminal_ends_the_demo_and_leaves_nothing(demo: Demo) -> None:
    master, slave = pty.openpty()
    try:
        running = demo.start("good", terminal=slave)
        os.close(slave)
        shown = b""
        while b"weight 5% wanted, 5% seen" not in shown:
            shown += os.read(master, 65536)
    finally:
        os.close(master)
    assert running.process.wait(40) != 0
    assert demo.left() == []
    assert demo.files() == [".lock"]
    assert running.text() == ""
