"""`make setup` in a shell as the README makes it: the Python first on PATH lies in what is made anew."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "setup"


def test_the_python_of_the_environment_that_goes_away_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    shutil.copy(SCRIPT, tmp_path / "scripts" / "setup")
    (tmp_path / "requirements").mkdir()
    for name in ("requirements/bootstrap.txt", "requirements/dev.txt", "pyproject.toml"):
        (tmp_path / name).write_text("")
    own = tmp_path / ".venv" / "bin"
    own.mkdir(parents=True)
    (own / "python3.13").write_text(f'#!/bin/sh\ntouch taken\nexec {sys.executable} "$@"\n')
    (own / "python3.13").chmod(0o755)
    given = tmp_path / "given"
    given.write_text(f'#!/bin/sh\n[ "$1" = -m ] && exit 9\nexec {sys.executable} "$@"\n')
    given.chmod(0o755)
    for candidate in ("python3.13", "python3.12", "python3.11", "python3.14", "python3"):
        (tmp_path / "other").mkdir(exist_ok=True)
        (tmp_path / "other" / candidate).symlink_to(given)
    path = f"{own}:{tmp_path / 'other'}:{os.environ['PATH']}"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHON"}
    done = subprocess.run(
        ["bash", "scripts/setup"],
        cwd=tmp_path,
        env={**environment, "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 9, done.stderr  # the other one was asked for the environment
    assert not (tmp_path / "taken").exists()
