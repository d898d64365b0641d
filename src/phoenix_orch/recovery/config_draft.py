"""The next commit of a configuration: files that are put, files that stay, all of them or none."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dulwich.objects import Blob, Commit, Tree, hex_to_sha, sha_to_hex

from phoenix_orch.kernel.errors import BadState
from phoenix_orch.recovery.config_pack import FOLDER, Sha
from phoenix_orch.recovery.config_repository import ConfigRepository, Heartbeat, told
from phoenix_orch.runtime.held_lock import HeldLock

AUTHOR = b"Phoenix <phoenix@phoenix-orch.io>"
FILE = 0o100644
_NAMED = 20
"""Paths that the message of a commit names."""
README = """\
The configuration of one cluster or machine, as Phoenix backed it up. It opens without Phoenix:

    git clone config.bundle configuration
    SOPS_AGE_KEY_FILE=keys.txt sops decrypt shop/Secret/db.yaml

Files of Kubernetes are <namespace>/<kind>/<name>.yaml; values of Secrets are sealed to the age recipients.
A file .digests beside them says by keyed signs which values changed, and nothing of the values.
"""


@dataclass(frozen=True, slots=True)
class Committed:
    """What came of a look at the configuration."""

    commit: str
    tree: str
    files: int
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    @property
    def new(self) -> bool:
        """There was something to commit."""
        return bool(self.added or self.changed or self.removed)


class Draft:
    """The files of the next commit. What is not put is not in it."""

    def __init__(self, repository: ConfigRepository, former: dict[str, Sha]) -> None:
        self._repository = repository
        self.former = former
        """Of the newest commit."""
        self._files: dict[str, Sha] = {}
        self._written: set[Sha] = set()

    def put(self, path: str, content: bytes) -> None:
        """The file as it is to be."""
        blob = Blob.from_string(content)
        sha = hex_to_sha(blob.id)
        if self.former.get(path) != sha:
            with told(self._repository.directory):
                self._repository.add(blob)
            self._written.add(sha)
        self._files[path] = sha

    def same(self, path: str, content: bytes) -> bool:
        """The file was exactly this."""
        return self.former.get(path) == hex_to_sha(Blob.from_string(content).id)

    def keep(self, path: str) -> None:
        """The file as it was."""
        self._files[path] = self.former[path]

    def read(self, path: str) -> bytes | None:
        """The file as it was; None where there was none."""
        sha = self.former.get(path)
        return self._repository.content(sha) if sha is not None else None

    def commit(self, at: datetime, message: str = "") -> Committed:
        """One commit if anything differs, and a heartbeat. All of it is there afterwards or nothing."""
        repository = self._repository
        with told(repository.directory):
            root = self._tree(self._files)
            found = self._compared(root)
            if found.new:
                found = self._committed(found, root, at, message)
        repository.beat(Heartbeat(at, found.commit, found.files))
        with told(repository.directory):
            repository.compact()
        return found

    def _compared(self, root: Sha) -> Committed:
        was, now = self.former, self._files
        return Committed(
            commit=self._repository.head().decode() if was else "",
            tree=root.hex(),
            files=len(now),
            added=tuple(sorted(now.keys() - was.keys())),
            changed=tuple(sorted(path for path in now.keys() & was.keys() if now[path] != was[path])),
            removed=tuple(sorted(was.keys() - now.keys())),
        )

    def _committed(self, found: Committed, root: Sha, at: datetime, message: str) -> Committed:
        repository, commit = self._repository, Commit()
        old = repository.head() if found.commit else None
        commit.tree = sha_to_hex(root)  # type: ignore[arg-type]
        commit.parents = [old] if old else []
        commit.author = commit.committer = AUTHOR
        commit.author_time = commit.commit_time = int(at.timestamp())
        commit.author_timezone = commit.commit_timezone = 0
        commit.message = f"{message or _summary(found)}\n".encode()
        self._written.add(repository.add(commit))
        repository.sync(self._written)
        repository.point(commit.id, old)
        return Committed(
            commit.id.decode(), found.tree, found.files, found.added, found.changed, found.removed
        )

    def _tree(self, files: dict[str, Sha]) -> Sha:
        folders: dict[str, dict[str, Sha]] = {}
        made = Tree()
        for path, sha in files.items():
            first, below, rest = path.partition("/")
            if below:
                folders.setdefault(first, {})[rest] = sha
            else:
                made.add(first.encode(), FILE, sha_to_hex(sha))  # type: ignore[arg-type]
        for name, inner in folders.items():
            made.add(name.encode(), FOLDER, sha_to_hex(self._tree(inner)))  # type: ignore[arg-type]
        sha = self._repository.add(made)
        self._written.add(sha)
        return sha


def begin(directory: Path, at: datetime, *, after: str = "") -> ConfigRepository:
    """A new repository whose first commit holds nothing but how to read it. `after`: what it follows.

    Raises Conflict where there is one.
    """

    def fill(made: ConfigRepository) -> None:
        draft = Draft(made, {})
        draft.put("README.md", README.encode())
        draft.commit(at, f"Begin\n\n{after}".strip())

    return ConfigRepository.made(directory, fill)


@contextlib.contextmanager
def drafting(repository: ConfigRepository) -> Iterator[Draft]:
    """The next commit, written by nobody else at the same time. Raises BadState while somebody is."""
    directory = repository.directory
    lock = HeldLock(directory.with_name(directory.name + ".lock"))
    with told(directory):
        if not lock.take():
            raise BadState(f"another process writes the configuration into {directory}", remedy="wait for it")
    try:
        with told(directory):
            _sweep(repository)
        yield Draft(repository, repository.files(repository.head().decode()))
    finally:
        lock.release()


def _sweep(repository: ConfigRepository) -> None:
    """What writers left that died in the middle: nobody else writes now."""
    for left in (*repository.directory.rglob("*.lock"), *repository.store_path.rglob("tmp*.pack")):
        left.unlink(missing_ok=True)


def _summary(found: Committed) -> str:
    parts = [("add", found.added), ("change", found.changed), ("remove", found.removed)]
    shown = [(verb, [path for path in paths if not _beside(path)]) for verb, paths in parts]
    head = ", ".join(f"{verb} {len(paths)}" for verb, paths in shown if paths) or "sign anew"
    named = [f"{verb} {path}" for verb, paths in shown for path in paths]
    if len(named) > _NAMED:
        named = [*named[:_NAMED], f"and {len(named) - _NAMED} more"]
    return "\n".join([head.capitalize(), "", *named]).strip()


def _beside(path: str) -> bool:
    """What Phoenix keeps beside the configuration."""
    return path.endswith(".digests") or path.startswith(".phoenix/")
