"""The traffic objects of one machine: a directory that any process may read and write.

    <directory>/dynamic/<route>.yaml   the traffic object; nothing else may lie here, Traefik obeys it
    <directory>/copies/<route>.yaml    the same text again, for when the object was deleted or torn
    <directory>/locks/<route>.lock     held for the moment of one write
    <directory>/scratch/               half-written files, and a reserve for aborts on a full disk

Guarantees. A write is seen wholly or not at all, and survives a power cut (fsync of file and
directory around one rename). Two writers never interleave (flock, and the version is compared under
it). Nothing but the directory is needed: no other part of Phoenix has to be alive.
A file that Phoenix did not write is never touched (rule R13).
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import structlog

from phoenix_orch.kernel.errors import Invalid, NotFound, PhoenixError, Retryable
from phoenix_orch.traffic.file_lock import locked
from phoenix_orch.traffic.state_file import Edited, NotOurs, RouteObject, Torn, decode, encode

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_OBEYED = {".yaml", ".yml", ".toml"}
_RESERVE = 64 * 1024
_FULL = {errno.ENOSPC, errno.EDQUOT}

_log = structlog.get_logger(__name__)


class RouteFiles:
    """Blocking; call it from a thread. Safe to use from several processes at once."""

    def __init__(self, directory: Path, *, lock_timeout: float = 5.0) -> None:
        """`lock_timeout`: seconds to wait for another writer before giving up with Retryable."""
        self.directory = directory
        self.dynamic = directory / "dynamic"
        self._copies = directory / "copies"
        self._locks = directory / "locks"
        self._scratch = directory / "scratch"
        self._lock_timeout = lock_timeout
        self._warned: tuple[Path, ...] = ()

    def prepare(self) -> None:
        """Make the directories. Idempotent."""
        for folder in (self.dynamic, self._copies, self._locks, self._scratch):
            folder.mkdir(parents=True, exist_ok=True)
        self._keep_reserve()

    def routes(self) -> tuple[str, ...]:
        """Names of all routes, sorted: those with an object, and those whose object was taken away."""
        found = {
            path.stem
            for folder in (self.dynamic, self._copies)
            if folder.is_dir()
            for path in folder.glob("*.yaml")
            if _NAME.fullmatch(path.stem)
        }
        return tuple(sorted(found - {path.stem for path in self.foreign()}))

    def foreign(self) -> tuple[Path, ...]:
        """Files that Traefik reads beside ours: one that it cannot read stops all changes of ours."""
        if not self.dynamic.is_dir():
            return ()
        files = [p for p in self.dynamic.rglob("*") if p.suffix in _OBEYED and p.is_file()]
        return tuple(sorted(path for path in files if not self._is_ours(path)))

    def read(self, route: str) -> RouteObject:
        """The object, `state.drifted` set when it differs from what Phoenix wrote.

        An object that was deleted, torn or edited by somebody is given from its copy, as drifted: the
        latch outlives that, and writing puts it back. Raises NotFound, NotOurs, Invalid, Retryable.
        """
        return self._found(route)

    def write(
        self, route: str, change: Callable[[RouteObject | None], RouteObject], *, reserve: bool = False
    ) -> RouteObject:
        """Replace the object by `change(object as it stands, or None)`, alone on the machine meanwhile.

        Writes nothing when `change` gives the same object back undrifted. With `reserve` the write may
        use the space set aside for aborts when the disk is full. Raises what `change` raises.
        """
        path = self._path(self.dynamic, route)
        self.prepare()
        with self._lock(route):
            try:
                current: RouteObject | None = self._found(route)
            except NotFound:
                current = None
            wanted = change(current)
            if wanted is current and not (current and current.state.drifted):
                return wanted
            wanted = wanted.model_copy(update={"state": wanted.state.model_copy(update={"drifted": False})})
            text = encode(wanted)
            self._replace(path, text, reserve=reserve)
            self._copy(route, text)
        self._warn_of_foreign()
        return wanted

    def remove(self, route: str) -> None:
        """Forget the route: its requests are answered with 404 from now on. Idempotent."""
        path = self._path(self.dynamic, route)
        if not self.directory.is_dir():
            return
        self.prepare()
        with self._lock(route):
            if path.exists() and not self._is_ours(path):
                raise _not_ours(path)
            self._path(self._copies, route).unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            _sync_directory(path.parent)

    def _found(self, route: str) -> RouteObject:
        path = self._path(self.dynamic, route)
        try:
            found = decode(_text(path))
        except FileNotFoundError:
            copy = self._copied(route)
            if copy is None:
                raise NotFound(
                    f"there is no route {route!r} in {self.dynamic}",
                    remedy=f"routes here: {', '.join(self.routes()) or 'none yet'}",
                ) from None
            return copy
        except Torn as error:
            copy = self._copied(route)
            if copy is not None:
                return copy
            if isinstance(error, Edited):
                return error.route
            raise Invalid(
                f"the traffic object {path} cannot be read: {error.message}",
                remedy="delete the file; Phoenix writes it anew",
            ) from None
        except NotOurs:
            raise _not_ours(path) from None
        except Invalid as error:
            raise Invalid(
                f"the traffic object {path} cannot be read: {error.message}", remedy=error.remedy
            ) from None
        except OSError as error:
            raise _unreadable(path, error) from error
        if found.state.route != route:
            raise Invalid(
                f"the traffic object {path} is of route {found.state.route!r}",
                remedy=f"move it back to {found.state.route}.yaml",
            )
        return found

    def _copied(self, route: str) -> RouteObject | None:
        try:
            copy = decode(_text(self._path(self._copies, route)))
        except (OSError, PhoenixError):
            return None
        if copy.state.route != route:
            return None
        return copy.model_copy(update={"state": copy.state.model_copy(update={"drifted": True})})

    def _is_ours(self, path: Path) -> bool:
        if path.parent != self.dynamic or path.suffix != ".yaml" or not _NAME.fullmatch(path.stem):
            return False
        try:
            decode(_text(path))
        except NotOurs:
            return False
        except (PhoenixError, OSError):
            return True
        return True

    def _path(self, folder: Path, route: str) -> Path:
        if not _NAME.fullmatch(route):
            raise Invalid(
                f"{route!r} is not the name of a route",
                remedy="use up to 63 lower-case letters, digits and dashes",
            )
        return folder / f"{route}.yaml"

    def _lock(self, route: str) -> AbstractContextManager[None]:
        return locked(self._locks / f"{route}.lock", f"route {route!r}", timeout=self._lock_timeout)

    def _replace(self, path: Path, text: str, *, reserve: bool) -> None:
        try:
            self._rename_into(path, text)
        except OSError as error:
            if not (reserve and error.errno in _FULL and self._give_up_reserve()):
                raise _unwritable(path, error) from error
            try:
                self._rename_into(path, text)
            except OSError as again:
                raise _unwritable(path, again) from again

    def _rename_into(self, path: Path, text: str) -> None:
        # Not in `dynamic`: Traefik would read a half-written .yaml there, hidden or not.
        temporary = self._scratch / f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}"
        try:
            with temporary.open("x", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        _sync_directory(path.parent)

    def _copy(self, route: str, text: str) -> None:
        """After the object, never before it: nothing may delay or prevent the object's own change."""
        try:
            self._rename_into(self._path(self._copies, route), text)
            self._keep_reserve()
        except OSError as error:
            _log.warning("traffic object has no copy", route=route, reason=str(error))

    def _warn_of_foreign(self) -> None:
        foreign = self.foreign()
        if foreign and foreign != self._warned:
            _log.warning(
                "files that Phoenix did not write lie among the routes and may stop every change",
                files=[str(path) for path in foreign],
                remedy="move them elsewhere",
            )
        self._warned = foreign

    def _keep_reserve(self) -> None:
        """Keep some space that an abort can free when the disk is full."""
        path = self._scratch / "reserve"
        with contextlib.suppress(OSError):  # without it a full disk delays aborts; nothing else
            if not path.exists():
                path.write_bytes(b"\0" * _RESERVE)

    def _give_up_reserve(self) -> bool:
        try:
            (self._scratch / "reserve").unlink()
        except OSError:
            return False
        return True


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _not_ours(path: Path) -> Invalid:
    return Invalid(
        f"{path} was not written by Phoenix and is left as it is",
        remedy="move it elsewhere, or name the route otherwise",
    )


def _unreadable(path: Path, error: OSError) -> Retryable:
    return Retryable(f"{path} cannot be read: {error.strerror}", remedy="see its permissions and the disk")


def _unwritable(path: Path, error: OSError) -> Retryable:
    remedy = "free some space" if error.errno in _FULL else "see the directory's permissions and the disk"
    return Retryable(f"{path} cannot be written: {error.strerror}; it stands as it was", remedy=remedy)
