"""Each file of the data directory is lost or torn: while Phoenix runs, before it starts again, before `down`.

Whatever is lost, users are served, and in the end no process is left that nobody knows of.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.faults.story import NAME, Story, story, until

from phoenix_orch.orchestrator.views import RolloutView

pytestmark = pytest.mark.timeout(300)

HELD = ("phoenix.lock", "workload.lock", "health-validator.lock", "rollback-controller.lock")
LOCKS = (*HELD, "router/locks/router", "router/locks/routes.lock", "valkey/valkey.lock")
STATES = (
    "router/router.json",
    "valkey/valkey.json",
    "services/web/instances.json",
    "phoenix.json",
    "router/dynamic/routes.yaml",
    "router/copies/routes.yaml",
    "router/traefik.yaml",
    "applied.json",
    "serving.json",
    "clock.json",
    "valkey/valkey.conf",
    "valkey/appendonlydir/appendonly.aof.manifest",
)
OTHERS = (
    "router/router.log",
    "router/router.out",
    "router/scratch/reserve",
    "services/web/logs/*.log",
    "valkey/valkey.log",
    "valkey/valkey.out",
)
SOCKETS = ("phoenix.sock", "valkey/valkey.sock")
COMES_BACK = {
    *HELD,
    *SOCKETS,
    "router/router.json",
    "valkey/valkey.json",
    "services/web/instances.json",
    "phoenix.json",
    "router/dynamic/routes.yaml",
    "router/copies/routes.yaml",
    "applied.json",
    "serving.json",
    "clock.json",
}
"""What others look for while Phoenix runs; the rest is read at a start alone."""
QUICK = {"router/router.json"}
REFUSED = {"clock.json"}
"""Torn, it is not guessed: `up` is refused. What runs can be ended all the same."""
DATA = {*REFUSED, "valkey/appendonlydir/appendonly.aof.manifest"}
"""Torn, nothing can bring them back but a copy, and the next start needs them."""


@pytest.fixture(scope="module")
def running() -> Iterator[Story]:
    with story() as made:
        yield made


@pytest.fixture(autouse=True)
def up(running: Story) -> None:
    """Also after a case that failed."""
    if running.phoenix.poll() is not None:
        up_again(running)


def deleted(path: Path) -> None:
    path.unlink()


def torn(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def cases(damage: Callable[[Path], None], *, quick: bool = False) -> list[object]:
    """`quick`: those of `QUICK` are part of every test run."""
    files = (*STATES, *OTHERS) if damage is torn else (*LOCKS, *STATES, *OTHERS, *SOCKETS)
    return [
        pytest.param(
            file,
            damage,
            id=f"{file}-{damage.__name__}",
            marks=() if quick and file in QUICK else pytest.mark.slow,
        )
        for file in files
    ]


def damaged(made: Story, file: str, damage: Callable[[Path], None]) -> tuple[Path, float]:
    made.remember()
    path = min(made.data.glob(file), default=made.data / file)
    at = time.time()
    with contextlib.suppress(FileNotFoundError):  # a start does not make all of them again at once
        damage(path)
    return path, at


def served(made: Story, at: float) -> None:
    """Users have been answered since then, and not one of them in vain."""
    until("users are served", lambda: made.users.account.last_good > at + 0.5)
    assert not made.users.failures_since(at)


def whole(path: Path) -> bool:
    if path.suffix == ".json":
        try:
            return bool(json.loads(path.read_bytes()))
        except (OSError, ValueError):
            return False
    return path.exists()


def everything_ends(made: Story) -> None:
    """`phoenix down` after a kill leaves nothing, and Phoenix starts again on what is left."""
    made.remember()
    made.kill(made.phoenix.pid)
    down(made)


def down(made: Story) -> None:
    done = made.cli("down")
    assert done.returncode == 0, done.stderr
    assert made.left() == [], f"{made.left()} after {done.stdout}"


def up_again(made: Story) -> None:
    made.restart()

    def serves(view: RolloutView) -> bool:
        if view.workload is None or view.seen is None:
            return False
        ready = {f"http://127.0.0.1:{one.port}" for one in view.workload.ready(view.rollout.target)}
        return len(ready) == view.rollout.replicas and view.seen.backends == ready

    made.until_view("both instances are routed", serves)
    until("nobody fails any more", lambda: not made.users.failures_since(time.time() - 1.0))


@pytest.mark.parametrize(("file", "damage"), [*cases(deleted, quick=True), *cases(torn)])
def test_lost_while_phoenix_runs(running: Story, file: str, damage: Callable[[Path], None]) -> None:
    path, at = damaged(running, file, damage)
    if file in COMES_BACK:
        until(f"{path} is back", lambda: whole(path), 10.0)
    until("Phoenix can be asked", running.answers)
    served(running, at)
    running.until_nobody_is_lost()
    second = running.start()
    assert second.wait(30) == 2, "one Phoenix for a directory"
    everything_ends(running)
    up_again(running)


@pytest.mark.parametrize(("file", "damage"), [*cases(deleted), *cases(torn, quick=True)])
def test_lost_before_a_start_and_before_down(
    running: Story, file: str, damage: Callable[[Path], None]
) -> None:
    good = (running.data / file).read_bytes() if file in DATA else b""
    running.kill(running.phoenix.pid)
    path, at = damaged(running, file, damage)
    if file in REFUSED and damage is torn:
        kept = running.start()
        assert kept.wait(30) == 2
    else:
        running.restart()
        served(running, at)
        running.until_nobody_is_lost()
        running.kill(running.phoenix.pid)
        damaged(running, file, damage)
    down(running)
    if file in DATA:
        path.write_bytes(good)
    up_again(running)


@pytest.mark.slow
def test_the_whole_directory_is_removed_while_phoenix_runs_and_before_down() -> None:
    with story() as made:
        made.remember()
        at = time.time()
        gone(made.data)
        files = [made.data / file for file in COMES_BACK if file != "router/copies/routes.yaml"]
        until("what others look for is back", lambda: all(whole(path) for path in files), 30.0)
        until("Phoenix can be asked", lambda: made.view() is not None)
        served(made, at)
        made.until_nobody_is_lost()
        assert stat.S_IMODE(made.data.stat().st_mode) == 0o700
        made.remember()
        made.kill(made.phoenix.pid)
        gone(made.data)
        dry = made.cli("down", "--dry-run")
        assert [line.split()[2].split("-")[0] for line in dry.stdout.splitlines()] == [
            "traefik",
            NAME,
            NAME,
            "valkey",
        ]
        down(made)


def gone(directory: Path) -> None:
    """Remove it, also while others write there."""
    while directory.exists():
        shutil.rmtree(directory, ignore_errors=True)
