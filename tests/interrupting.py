"""Ctrl-C in a command that has come to a certain place."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def interrupted(child: str, *words: str) -> str:
    """What it says on stderr. `child`: a program that prints `there` on a line of its own, and waits."""
    process = subprocess.Popen(
        [sys.executable, "-c", child, *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        while (line := process.stdout.readline()) != "there\n":
            assert line, process.stderr.read()
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to whatever it has started, too
        said = process.stderr.read()
    assert process.returncode == 130, said
    assert "Traceback" not in said
    return said
