"""`make setup` in a shell as the README makes it: the Python first on PATH lies in what is made anew."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

LOCKS = tuple(f"requirements/{name}.txt" for name in ("bootstrap", "build", "dev", "runtime"))
SCRIPT = Path(__file__).parents[2] / "scripts" / "setup"


def test_the_python_of_the_environment_that_goes_away_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    shutil.copy(SCRIPT, tmp_path / "scripts" / "setup")
    (tmp_path / "requirements").mkdir()
    for name in (*LOCKS, "pyproject.toml"):
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


def setup(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "scripts/setup", *words],
        cwd=place,
        env={key: value for key, value in os.environ.items() if key != "PYTHON"} | {"PATH": f"{place}/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_running_needs_less_than_work_and_work_is_enough_for_running(tmp_path: Path) -> None:
    """A Python and programs of its own, which note what is installed."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(SCRIPT, tmp_path / "scripts" / "setup")
    (tmp_path / "requirements").mkdir()
    for name in (*LOCKS, "pyproject.toml"):
        (tmp_path / name).write_text(name)
    (tmp_path / "bin").mkdir()
    for name in ("bash", "cat", "cut", "dirname", "rm", "sha256sum", "mkdir", "cp", "chmod", "touch", "env"):
        found = shutil.which(name)
        assert found is not None
        (tmp_path / "bin" / name).symlink_to(found)
    note = f'#!/usr/bin/env bash\necho "$@" >> {tmp_path}/installed\n'
    (tmp_path / "uv").write_text(note)
    (tmp_path / "uv").chmod(0o755)
    python = tmp_path / "bin" / "python3"
    python.write_text(
        "#!/usr/bin/env bash\n"
        'if [ "$2" = venv ]; then mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; cp uv "$3/bin/uv"; fi\n'
    )
    python.chmod(0o755)

    def synced(*words: str) -> list[str]:
        (tmp_path / "installed").write_text("")
        done = setup(tmp_path, *words)
        assert done.returncode == 0, done.stderr
        lines = (tmp_path / "installed").read_text().splitlines()
        return [word for line in lines if " sync " in line for word in line.split() if word.startswith("req")]

    assert synced("run") == ["requirements/runtime.txt", "requirements/build.txt"]
    assert synced("run") == []
    assert synced() == ["requirements/dev.txt"]
    assert synced() == synced("run") == []
    assert setup(tmp_path, "walk").returncode == 2
