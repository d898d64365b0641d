"""Takes backups of a configuration in processes that are killed before each thing they do to the disk.

A program of its own: it forks, which a test's process with its threads had better not. Prints how many were
killed, as JSON; ends with a traceback where what a kill left is neither old nor new.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from tests.integration.test_config_source import CANARIES, ONLINE, Place, config_map, git, secret

from phoenix_orch.kernel.errors import NotFound
from phoenix_orch.recovery import config_repository
from phoenix_orch.recovery.config_repository import ConfigRepository
from phoenix_orch.recovery.errors import Corrupted
from phoenix_orch.recovery.secret_values import opened

WRITES = {
    "os.rename",
    "os.remove",
    "os.mkdir",
    "os.rmdir",
    "os.link",
    "os.truncate",
    "os.chmod",
    "shutil.rmtree",
}
OLD = [config_map("web", a="1"), secret("db", password=CANARIES[0])]
NEW = [config_map("web", a="2"), secret("db", password=CANARIES[1]), config_map("more", b="1")]


def killed_before(number: int) -> None:
    """Have this process killed before its write of that number."""
    left = number

    def hook(event: str, given: tuple[object, ...]) -> None:
        nonlocal left
        writes = event in WRITES or (
            event == "open"
            and isinstance(given[2], int)
            and given[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        )
        if writes:
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

    sys.addaudithook(hook)


def dies(work: Callable[[], object], number: int) -> bool:
    """Whether a process that does it dies before its write of that number."""
    child = os.fork()
    if child == 0:
        killed_before(number)
        work()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert status == 0, f"a backup failed without having been killed: {status}"
    return False


def found(place: Place) -> dict[str, object]:
    """All that a backup holds, secrets opened."""
    with ConfigRepository.open(place.folder) as repository:
        files = repository.files(repository.head().decode())
        return {
            path: opened(repository.content(sha), [ONLINE]) if "/Secret/" in path else repository.content(sha)
            for path, sha in files.items()
            if path.endswith(".yaml")
        }


def story(root: Path, make: Callable[[Place], None]) -> int:
    """`make` prepares a place with OLD or nothing; backups of NEW in it are killed. How many were."""
    start, old = Place(root / "start", *OLD), Place(root / "old", *OLD)
    make(start)
    old.back_up()
    before = found(old)
    wanted = Place(root / "wanted", *NEW)
    wanted.back_up()
    after = found(wanted)
    number = 0
    while True:
        folder = root / str(number)
        shutil.copytree(start.state, folder) if start.state.exists() else folder.mkdir(mode=0o700)
        place = Place(folder, *NEW)
        place.at, place.bundle = start.at, start.bundle
        died = dies(place.back_up, number)
        with contextlib.suppress(NotFound, *([Corrupted] if make is torn else [])):
            assert found(place) in ({}, before, after), f"write {number} left something between"
        facts = place.back_up()
        assert found(place) == after, f"after write {number}"
        assert git(place.folder, "fsck", "--strict", "--no-dangling") == ""
        with ConfigRepository.rebuild(
            root / "again.git", io.BytesIO(place.bundle or b"").read, ".old"
        ) as again:
            assert again.head().decode() == facts.content["commit"]
        shutil.rmtree(root / "again.git")
        shutil.rmtree(folder)
        if not died:
            return number
        number += 1


def nothing(place: Place) -> None:
    """The first backup of all."""


def one_before(place: Place) -> None:
    place.back_up()


def torn(place: Place) -> None:
    """The branch is gone, so that the last bundle is taken."""
    place.back_up()
    (place.folder / "refs/heads/main").unlink()


def main() -> None:
    root = Path(sys.argv[1])
    config_repository.MANY_LOOSE = 10  # so that objects are put together, too
    counts = {make.__name__: story(root / make.__name__, make) for make in (nothing, one_before, torn)}
    sys.stdout.write(json.dumps(counts))


if __name__ == "__main__":
    main()
