"""Configurations in a bare Git repository of one machine.

A repository that lost something, to a disk or to power, is not one to go on with: it is refused with
`Corrupted`, and rebuilt from the last bundle. From its making on it has a commit: one without is torn.
That nothing has changed is recorded apart (`Heartbeat`): no commit is not no backup.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from dulwich.errors import NotGitRepository
from dulwich.object_store import DiskObjectStore
from dulwich.objects import Blob, Commit, ObjectID, Tree, hex_to_sha
from dulwich.refs import Ref
from dulwich.repo import Repo

from phoenix_orch.kernel.errors import Conflict, NotFound, Retryable
from phoenix_orch.recovery import config_pack, config_reading
from phoenix_orch.recovery.config_pack import BRANCH, Pieces, Sha
from phoenix_orch.recovery.config_reading import Change, Logged
from phoenix_orch.recovery.errors import Corrupted
from phoenix_orch.runtime.files import make_private

MANY_LOOSE = 4096
"""Objects in files of their own before they are put together into one."""
_COMMIT = re.compile(rb"[0-9a-f]{40}")
_TORN = "phoenix-torn"
_HEARTBEAT = "phoenix-heartbeat.json"


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """When the configuration was looked at last, and what was found."""

    at: datetime
    commit: str
    files: int


class ConfigRepository:
    """Open it with `open`. Calls block for as long as a disk takes."""

    def __init__(self, directory: Path, repo: Repo) -> None:
        self.directory = directory
        self._repo = repo
        store = repo.object_store
        assert isinstance(store, DiskObjectStore)
        self.store = store

    # -- opening -----------------------------------------------------------------------------------

    @classmethod
    def open(cls, directory: Path) -> ConfigRepository:
        """Raises NotFound where there is none, Corrupted where the newest commit cannot be read."""
        if not directory.exists():
            raise NotFound(f"there is no repository of configurations at {directory}")
        try:
            found = cls(directory, Repo(str(directory)))
        except (NotGitRepository, OSError, ValueError, KeyError) as error:
            raise Corrupted(
                f"{directory} is no repository any more: {type(error).__name__}", remedy=REBUILD
            ) from None
        if (directory / _TORN).exists():
            raise Corrupted(f"{directory} was found torn before", remedy=REBUILD)
        config_reading.intact(found.store, found.head())
        return found

    @classmethod
    def rebuild(cls, directory: Path, read: Callable[[int], bytes], aside: str) -> ConfigRepository:
        """Make it anew from a bundle. What stood there is kept beside it, with `aside` to its name.

        Raises Corrupted, and leaves everything as it was, where the bundle is not whole.
        """

        def fill(made: ConfigRepository) -> None:
            head = config_pack.unpack(read, made.store)
            config_pack.planned(made.store, head)
            made.point(head, None)

        return cls.made(directory, fill, aside)

    @classmethod
    def made(
        cls, directory: Path, fill: Callable[[ConfigRepository], None], aside: str = ""
    ) -> ConfigRepository:
        """A new one that `fill` has given its first commit: it is there whole, or not at all. With `aside`
        what stands there gets another name; without, that raises Conflict."""
        temporary = directory.with_name(directory.name + ".new")
        with told(directory):
            shutil.rmtree(temporary, ignore_errors=True)
            make_private(temporary)
            made = cls(temporary, Repo.init_bare(str(temporary), default_branch=b"main"))
            try:
                fill(made)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
            finally:
                made.close()
            _sync_all(temporary)
            if directory.exists():
                if not aside:
                    raise Conflict(f"{directory} exists already")
                directory.replace(_free(directory.with_name(directory.name + aside)))
            temporary.replace(directory)
            _sync(directory.parent)
        return cls.open(directory)

    def close(self) -> None:
        self._repo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- reading -----------------------------------------------------------------------------------

    def head(self) -> ObjectID:
        """The newest commit. Raises Corrupted where nothing says which that is."""
        try:
            found = self._repo.refs[Ref(BRANCH)]
        except (KeyError, ValueError, OSError):
            found = ObjectID(b"")
        if not _COMMIT.fullmatch(found):
            raise Corrupted(
                f"{self.directory} does not say any more which commit is the newest", remedy=REBUILD
            )
        return found

    def log(self) -> Iterator[Logged]:
        """The newest first."""
        return config_reading.log(self.store, self.head())

    def resolve(self, said: str) -> Logged:
        """The commit that is meant: `HEAD`, `HEAD~2`, or the beginning of its id. Raises NotFound."""
        return config_reading.resolve(self.log(), said)

    def as_of(self, at: datetime) -> Logged:
        """The configuration as it was then. Raises NotFound where none is so old."""
        return config_reading.as_of(self.log(), at)

    def files(self, commit: str, under: str = "") -> dict[str, Sha]:
        """Paths to contents at a commit, those that begin with `under`."""
        return config_reading.files(self.store, commit, under)

    def content(self, sha: Sha) -> bytes:
        """Raises Corrupted."""
        return config_pack.whole(self.store, sha)[1]

    def changes(self, old: str, new: str) -> list[Change]:
        """What differs between two commits, by path."""
        return config_reading.changes(self.store, old, new)

    def bundle(self) -> Pieces:
        """The whole history as `git bundle` writes it. Reading raises Corrupted where it is torn."""
        return Pieces(config_pack.bundle(self.store, self.head()))

    def heartbeat(self) -> Heartbeat | None:
        """When somebody looked last; None where that is not known."""
        try:
            found = json.loads((self.directory / _HEARTBEAT).read_bytes())
            return Heartbeat(datetime.fromisoformat(found["at"]), str(found["commit"]), int(found["files"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    # -- writing -----------------------------------------------------------------------------------

    @property
    def store_path(self) -> Path:
        return self.directory / "objects"

    def add(self, found: Blob | Tree | Commit) -> Sha:
        """Into the store, unless it is there."""
        self.store.add_object(found)
        return hex_to_sha(found.id)

    def sync(self, objects: set[Sha]) -> None:
        """Have these on the disk before anything says that they are there."""
        folders = set()
        for sha in objects:
            path = self.store_path / sha.hex()[:2] / sha.hex()[2:]
            with contextlib.suppress(FileNotFoundError):  # it was in a pack already
                _sync(path)
                folders.add(path.parent)
        for folder in folders:
            _sync(folder)
        _sync(self.store_path)

    def compact(self) -> None:
        """Put all objects together into one file, when there are many."""
        loose = list(self.store._iter_loose_objects())  # noqa: SLF001 - the library has no other name for it
        if len(loose) < MANY_LOOSE:
            return
        old = list(self.store.packs)
        plan = config_pack.planned(self.store, self.head())
        file, commit, abort = self.store.add_pack()
        try:
            pieces = config_pack.pack(self.store, plan)
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
            commit()
        except BaseException:
            file.close()
            with contextlib.suppress(OSError):
                abort()
            raise
        _sync(self.store_path / "pack")
        kept = {one.sha for one in plan}
        for sha in loose:
            if hex_to_sha(sha) in kept:
                self.store.delete_loose_object(sha)
        names = {pack.name() for pack in self.store.packs if pack.name() not in {one.name() for one in old}}
        if names:
            for pack in old:
                self.store._remove_pack(pack)  # noqa: SLF001

    def point(self, head: ObjectID, old: ObjectID | None) -> None:
        """Have the branch name this commit, if it names `old` now."""
        ref = Ref(BRANCH)
        done = (
            self._repo.refs.add_if_new(ref, head)
            if old is None
            else self._repo.refs.set_if_equals(ref, old, head)
        )
        if not done:
            raise Conflict(f"another process has written to {self.directory}")
        _sync(self.directory / "refs" / "heads" / "main")
        _sync(self.directory / "refs" / "heads")

    def condemn(self, why: str) -> None:
        """Have nobody go on with it: something older than the newest commit is torn."""
        with told(self.directory):
            (self.directory / _TORN).write_text(f"{why}\n", encoding="utf-8")

    def beat(self, seen: Heartbeat) -> None:
        """Record that somebody looked."""
        beat = asdict(seen) | {"at": seen.at.astimezone(UTC).isoformat()}
        temporary = self.directory / f"{_HEARTBEAT}.new"
        with told(self.directory):
            with temporary.open("w", encoding="ascii") as file:
                json.dump(beat, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.directory / _HEARTBEAT)


REBUILD = "the next backup rebuilds it from the last bundle; meanwhile read one with --bundle"


def _free(path: Path) -> Path:
    """A name that nothing has yet."""
    number, wanted = 1, path
    while wanted.exists():
        number += 1
        wanted = path.with_name(f"{path.name}-{number}")
    return wanted


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_all(directory: Path) -> None:
    for path in directory.rglob("*"):
        _sync(path)
    _sync(directory)


@contextlib.contextmanager
def told(directory: Path) -> Iterator[None]:
    """Errors of the disk as ours."""
    try:
        yield
    except OSError as error:
        raise Retryable(
            f"the repository of configurations {directory} cannot be written: {error.strerror or error}",
            remedy="make room on its disk, or mend its rights",
        ) from error
