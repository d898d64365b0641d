"""What the commits of a configuration say: when, which files, what differs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from dulwich.object_store import BaseObjectStore
from dulwich.objects import ObjectID, hex_to_sha

from phoenix_orch.kernel.errors import NotFound
from phoenix_orch.recovery.config_pack import FOLDER, Sha, history, tree

_REMEDY = "see: phoenix backup config log"
_SHORTEST = 4
"""Digits of an id that name a commit."""


@dataclass(frozen=True, slots=True)
class Logged:
    """One commit."""

    commit: str
    at: datetime
    message: str


@dataclass(frozen=True, slots=True)
class Change:
    """One file that differs between two commits. `old` and `new` are None where there is none."""

    path: str
    old: Sha | None
    new: Sha | None


def log(store: BaseObjectStore, head: ObjectID) -> Iterator[Logged]:
    """The newest first. Raises Corrupted."""
    for commit_id, commit in history(store, head):
        at = datetime.fromtimestamp(commit.commit_time, UTC)
        yield Logged(commit_id.decode(), at, commit.message.decode("utf-8", "replace").strip())


def resolve(commits: Iterable[Logged], said: str) -> Logged:
    """The commit that is meant: `HEAD`, `HEAD~2`, or the beginning of its id. Raises NotFound."""
    name, _, back = said.partition("~")
    if name == "HEAD" and (not back or back.isdecimal()):
        for number, logged in enumerate(commits):
            if number == int(back or 0):
                return logged
    elif len(said) >= _SHORTEST:
        found = [logged for logged in commits if logged.commit.startswith(said.lower())]
        if len(found) == 1:
            return found[0]
    raise NotFound(f"no commit of the configuration is called {said!r}", remedy=_REMEDY)


def as_of(commits: Iterable[Logged], at: datetime) -> Logged:
    """The newest commit that is not younger. Raises NotFound."""
    for logged in commits:
        if logged.at <= at:
            return logged
    raise NotFound(f"the first configuration is younger than {at.isoformat()}", remedy=_REMEDY)


def files(store: BaseObjectStore, commit: str, under: str = "") -> dict[str, Sha]:
    """Paths to contents, of those that begin with `under`. Raises Corrupted."""
    return dict(_walk(store, _root(store, commit), "", under))


def changes(store: BaseObjectStore, old: str, new: str) -> list[Change]:
    """What differs between two commits, by path. Raises Corrupted."""
    found = _differing(store, _root(store, old), _root(store, new), "")
    return sorted(found, key=lambda one: one.path)


def intact(store: BaseObjectStore, commit: ObjectID) -> None:
    """Raises Corrupted unless the commit and every folder of it are there."""
    for _ in _walk(store, _root(store, commit.decode()), "", ""):
        pass


def _root(store: BaseObjectStore, commit: str) -> Sha:
    _, found = next(history(store, ObjectID(commit.encode())))
    return hex_to_sha(found.tree)


def _walk(store: BaseObjectStore, sha: Sha, path: str, under: str) -> Iterator[tuple[str, Sha]]:
    for name, (mode, part) in tree(store, sha).items():
        full = f"{path}{name.decode('utf-8', 'replace')}"
        if mode != FOLDER:
            if full.startswith(under):
                yield full, part
        elif f"{full}/".startswith(under) or under.startswith(f"{full}/"):
            yield from _walk(store, part, f"{full}/", under)


def _differing(store: BaseObjectStore, old: Sha | None, new: Sha | None, path: str) -> Iterator[Change]:
    before = tree(store, old) if old else {}
    after = tree(store, new) if new else {}
    for name in before.keys() | after.keys():
        was, now = before.get(name), after.get(name)
        if was == now:
            continue
        full = f"{path}{name.decode('utf-8', 'replace')}"
        folders, contents = zip(_parted(was), _parted(now), strict=True)
        if any(folders):
            yield from _differing(store, *folders, f"{full}/")
        if any(contents):
            yield Change(full, *contents)


def _parted(entry: tuple[int, Sha] | None) -> tuple[Sha | None, Sha | None]:
    """The entry as a folder, and as a file; one of them is None."""
    if entry is None:
        return None, None
    mode, sha = entry
    return (sha, None) if mode == FOLDER else (None, sha)
