"""The history of configurations for the command line: from the data directory, or from a bundle."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path

from phoenix_orch.kernel import files
from phoenix_orch.kernel.errors import Invalid, NotFound
from phoenix_orch.recovery import config_diff
from phoenix_orch.recovery.config_repository import ConfigRepository
from phoenix_orch.recovery.errors import Corrupted
from phoenix_orch.recovery.sources.config import REPOSITORY
from phoenix_orch.rollout.spec import Model

_WRITTEN = "name a file that `phoenix backup cat --component config` wrote"


class ConfigCommit(Model):
    """One commit of the configuration."""

    commit: str
    at: datetime
    message: str


class ConfigLog(Model):
    """Commits, the newest first."""

    looked_at: datetime | None
    """When the configuration was looked at last, changed or not."""
    commits: tuple[ConfigCommit, ...]


class ConfigChange(Model):
    """One file that differs."""

    path: str
    change: str
    values: tuple[str, ...] = ()
    """Names of secret values that differ."""
    diff: tuple[str, ...] = ()


class ConfigDiff(Model):
    """What differs between two commits."""

    old: str
    new: str
    files: tuple[ConfigChange, ...]


class ConfigFiles(Model):
    """The files of a commit, or what is in one of them."""

    commit: str
    at: datetime
    paths: tuple[str, ...]
    content: str = ""


@contextlib.contextmanager
def opened(state: Path, bundle: Path | None) -> Iterator[ConfigRepository]:
    """The repository of a state directory, or what a `git bundle` file has. Raises NotFound, Invalid."""
    if bundle is None:
        try:
            found = ConfigRepository.open(state / REPOSITORY)
        except NotFound as error:
            raise NotFound(
                error.message, remedy="nothing was backed up here yet; or name a file with --bundle"
            ) from None
        with found:
            yield found
        return
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="phoenix-"))
        source = stack.enter_context(files.opened(bundle, absent=_WRITTEN))
        try:
            made = ConfigRepository.rebuild(Path(folder) / REPOSITORY, source.read, ".torn")
        except Corrupted as error:
            raise Corrupted(f"{bundle}: {error.message}", remedy=error.remedy or _WRITTEN) from None
        except OSError as error:
            raise Invalid(f"{bundle} cannot be read: {error.strerror}", remedy=_WRITTEN) from None
        yield stack.enter_context(made)


def chosen(repository: ConfigRepository, commit: str | None, as_of: datetime | None) -> ConfigCommit:
    """The commit that is meant: by name, by time, or the newest. Raises Invalid, NotFound."""
    if commit is not None and as_of is not None:
        raise Invalid("a commit and a time are named", remedy="name one of them")
    found = repository.as_of(as_of) if as_of is not None else repository.resolve(commit or "HEAD")
    return ConfigCommit(commit=found.commit, at=found.at, message=found.message)


def before(repository: ConfigRepository, after: ConfigCommit) -> ConfigCommit:
    """The commit before, or the same one where it is the first."""
    commits = iter(repository.log())
    for one in commits:
        if one.commit == after.commit:
            found = next(commits, one)
            return ConfigCommit(commit=found.commit, at=found.at, message=found.message)
    return after


def log(repository: ConfigRepository, limit: int) -> ConfigLog:
    beat = repository.heartbeat()
    commits = (
        ConfigCommit(commit=one.commit, at=one.at, message=one.message)
        for one in islice(repository.log(), limit)
    )
    return ConfigLog(looked_at=beat.at if beat else None, commits=tuple(commits))


def diff(repository: ConfigRepository, old: str, new: str) -> ConfigDiff:
    """Lines that differ; of secrets which values do, and never those."""
    before, after = repository.files(old), repository.files(new)
    found = []
    for one in repository.changes(old, new):
        if one.path.endswith(".digests"):
            continue
        was = None if one.old is None else _for_people(repository, before, one.path)
        now = None if one.new is None else _for_people(repository, after, one.path)
        found.append(
            ConfigChange(
                path=one.path,
                change="added" if was is None else "removed" if now is None else "changed",
                values=config_diff.values_changed(
                    _signs(repository, before, one.path), _signs(repository, after, one.path)
                ),
                diff=tuple(config_diff.unified(one.path, was, now)),
            )
        )
    return ConfigDiff(old=old, new=new, files=tuple(found))


def show(repository: ConfigRepository, commit: ConfigCommit, path: str) -> ConfigFiles:
    """One file for people, or the files below a folder. Raises NotFound."""
    files = repository.files(commit.commit)
    paths = tuple(
        sorted(one for one in files if one == path or one.startswith(f"{path.rstrip('/')}/") or not path)
    )
    if not paths:
        raise NotFound(
            f"the configuration has no {path!r} at {commit.commit[:12]}",
            remedy="see: phoenix backup config show",
        )
    content = _for_people(repository, files, path) if path in files else ""
    return ConfigFiles(commit=commit.commit, at=commit.at, paths=paths, content=content)


def _for_people(repository: ConfigRepository, files: dict[str, bytes], path: str) -> str:
    signs = _signs(repository, files, path)
    if path.endswith((".sops", ".age")):
        return config_diff.sealed_whole(signs)
    return config_diff.shown(repository.content(files[path]).decode("utf-8", "replace"), signs)


def _signs(repository: ConfigRepository, files: dict[str, bytes], path: str) -> str:
    sha = files.get(f"{path.rpartition('.')[0]}.digests")
    return repository.content(sha).decode("utf-8", "replace") if sha is not None else ""
