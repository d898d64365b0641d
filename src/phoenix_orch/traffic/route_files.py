"""The traffic objects of one machine: a file that any process may read and write.

    <directory>/dynamic/routes.yaml   all traffic objects; the one file that Traefik obeys
    <directory>/copies/routes.yaml    the same text again, for when the first was deleted or damaged
    <directory>/locks/routes.lock     held for the moment of one write
    <directory>/scratch/              half-written files, and a reserve for aborts on a full disk
    <directory>/put-aside/            what somebody else put in the place of the first file

Guarantees. A write is seen wholly or not at all, and survives a power cut (fsync of file and
directory around one rename). Two writers never interleave (flock, and the version is compared under
it). Nothing but the directory is needed: no other part of Phoenix has to be alive. Other files beside
these mean nothing to Traefik and are left alone; what stands in the place of the table itself is moved
away and kept (rule R13), so that nothing can be in the way of an abort (ADR 0007).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import structlog

from phoenix_orch.kernel.errors import Invalid, NotFound, PhoenixError, Retryable
from phoenix_orch.runtime.file_lock import locked
from phoenix_orch.runtime.files import make_private
from phoenix_orch.traffic.spec import RouteSpec
from phoenix_orch.traffic.state_file import Reading, RouteObject, Table, decode, encode, marker, merged

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_FILE = "routes.yaml"
_RESERVE = 64 * 1024
_FULL = {errno.ENOSPC, errno.EDQUOT}

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Found:
    """What the two files say together."""

    seen: tuple[str | None, bool, str | None]
    """The table's text, whether something unreadable is in its place, the copy's text."""
    table: Table
    whole: bool
    """The table is there as Phoenix wrote it last."""
    foreign: bool
    """Something that Phoenix did not write stands in its place."""


class RouteFiles:
    """Blocking; call it from a thread. Safe to use from several processes at once."""

    def __init__(self, directory: Path, *, lock_timeout: float = 5.0) -> None:
        """`lock_timeout`: seconds to wait for another writer before giving up with Retryable."""
        self.directory = directory
        self.path = directory / "dynamic" / _FILE
        """The table: what Traefik obeys."""
        self._copy = directory / "copies" / _FILE
        self._locks = directory / "locks"
        self._scratch = directory / "scratch"
        self._aside = directory / "put-aside"
        self._lock_timeout = lock_timeout
        self._known: _Found | None = None

    def prepare(self) -> None:
        """Make the directories. Idempotent. Raises Retryable."""
        try:
            for folder in (self.path.parent, self._copy.parent, self._locks, self._scratch):
                make_private(folder)
        except OSError as error:
            raise _unwritable(Path(error.filename or self.directory), error) from error
        self._keep_reserve(_RESERVE)

    def routes(self) -> tuple[str, ...]:
        """Names of all routes with a traffic object, sorted."""
        return tuple(sorted(self._found().table.routes))

    def table(self) -> Table:
        """All routes, as far as they are known."""
        return self._found().table

    def marker(self) -> str | None:
        """By what one can see that Traefik obeys the table; None while it is not as Phoenix wrote it."""
        found = self._found()
        return marker(found.table) if found.whole else None

    def read(self, route: str) -> RouteObject:
        """The object, `state.drifted` set when the table differs from what Phoenix wrote.

        An object that was deleted, damaged or edited by somebody is given from its copy, as drifted: the
        latch outlives that, and writing puts it back. Raises NotFound, Invalid, Retryable.
        """
        known = _object(self._found(), _checked(route))
        if known is None:
            raise NotFound(
                f"there is no route {route!r} in {self.path}",
                remedy=f"routes here: {', '.join(self.routes()) or 'none yet'}",
            )
        return known

    def write(
        self, route: str, change: Callable[[RouteObject | None], RouteObject], *, reserve: bool = False
    ) -> RouteObject:
        """Replace the object by `change(object as it stands, or None)`, alone on the machine meanwhile.

        Writes nothing when `change` gives the same object back undrifted. With `reserve` the write may
        use the space set aside for aborts when the disk is full. Raises what `change` raises.
        """
        _checked(route)
        self.prepare()
        with self._lock():
            found = self._found()
            current = _object(found, route)
            wanted = change(current)
            if wanted is current and found.whole:
                return wanted
            wanted = wanted.model_copy(update={"state": wanted.state.model_copy(update={"drifted": False})})
            self._put(found, found.table.holding(route, wanted), reserve=reserve)
        return wanted

    def write_all(self, change: Callable[[RouteObject], RouteObject]) -> None:
        """As `write`, of every route that has an object, in one rename. Nothing is written for no change."""
        self.prepare()
        with self._lock():
            found = self._found()
            routes = {name: change(route) for name, route in found.table.routes.items()}
            if any(routes[name] is not route for name, route in found.table.routes.items()):
                self._put(found, Table(routes, found.table.waiting))

    def wait_for(self, route: str, spec: RouteSpec) -> None:
        """Have requests of a route without an object answered with 503. Idempotent."""
        _checked(route)
        self.prepare()
        with self._lock():
            found = self._found()
            if route not in found.table.routes and found.table.waiting.get(route) != spec:
                self._put(found, found.table.waiting_for(route, spec))

    def remove(self, route: str, *, waiting_only: bool = False) -> None:
        """Forget the route: its requests are answered with 404 from now on. Idempotent.

        `waiting_only`: unless it has an object."""
        _checked(route)
        if not self.directory.is_dir():
            return
        self.prepare()
        with self._lock():
            found = self._found()
            rest = found.table.without(route)
            if rest == found.table or (waiting_only and route in found.table.routes):
                return
            self._copied(encode(rest))  # first: what only the copy knows comes back
            self._put(found, rest)

    def restore(self) -> bool:
        """Write the table again if it is not as Phoenix wrote it last, or missing; whether that was so."""
        self.prepare()
        with self._lock():
            found = self._found()
            if not found.whole:
                self._put(found, found.table)
        return not found.whole

    def keep_copy(self) -> None:
        """Write the copy again when it is not the table's. Raises Retryable; a copy alone raises nothing."""
        found = self._found()
        if not found.whole or found.seen[0] == found.seen[2]:
            return
        self.prepare()
        with self._lock():
            found = self._found()
            if found.whole and found.seen[0] is not None and found.seen[0] != found.seen[2]:
                self._copied(found.seen[0])

    def _found(self) -> _Found:
        """Read both files. What was read before is not read into again while the texts are the same."""
        text, in_the_way = _text(self.path)
        copy = _text(self._copy)[0]
        seen = (text, in_the_way, copy)
        if self._known is not None and self._known.seen == seen:
            return self._known
        try:
            reading = decode(text or "")
        except Invalid as error:
            raise Invalid(f"{self.path} cannot be read: {error.message}", remedy=error.remedy) from None
        table = merged(reading, _read_copy(copy))
        self._known = found = _Found(
            seen=seen,
            table=table,
            whole=text is not None and text == encode(table),
            foreign=in_the_way or not reading.ours,
        )
        return found

    def _lock(self) -> AbstractContextManager[None]:
        return locked(self._locks / "routes.lock", "the routes", timeout=self._lock_timeout)

    def _put(self, found: _Found, table: Table, *, reserve: bool = False) -> None:
        text = encode(table)
        if found.foreign:
            self._put_aside(found.seen[0])
        self._replace(text, reserve=reserve)
        self._copied(text)

    def _put_aside(self, text: str | None) -> None:
        """Keep what is not ours, and have it out of the way. The same text is kept once."""
        name = hashlib.sha256(text.encode()).hexdigest()[:8] if text else secrets.token_hex(4)
        kept = self._aside / f"{name}.{_FILE}"
        try:
            make_private(self._aside)
            if self.path.is_dir():
                self.path.replace(kept)
            elif not kept.exists():
                kept.hardlink_to(self.path)  # the table takes its name, and at no moment is there none
        except OSError as error:
            _log.warning("cannot put aside what is not ours", file=str(self.path), reason=str(error))
        else:
            _log.warning("what Phoenix did not write was put aside", file=str(self.path), kept=str(kept))

    def _replace(self, text: str, *, reserve: bool) -> None:
        try:
            self._rename_into(self.path, text)
        except OSError as error:
            if not (reserve and error.errno in _FULL and self._give_up_reserve()):
                raise _unwritable(self.path, error) from error
            try:
                self._rename_into(self.path, text)
            except OSError as again:
                raise _unwritable(self.path, again) from again

    def _rename_into(self, path: Path, text: str) -> None:
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

    def _copied(self, text: str) -> None:
        """After the table, never before it: nothing may delay or prevent the table's own change."""
        try:
            self._rename_into(self._copy, text)
            self._keep_reserve(max(_RESERVE, 2 * len(text.encode())))
        except OSError as error:
            _log.warning("the traffic objects have no copy", reason=str(error))

    def _keep_reserve(self, size: int) -> None:
        """Keep some space that an abort can free when the disk is full."""
        path = self._scratch / "reserve"
        with contextlib.suppress(OSError):  # without it a full disk delays aborts; nothing else
            if not path.exists() or path.stat().st_size < size:
                path.write_bytes(b"\0" * size)

    def _give_up_reserve(self) -> bool:
        try:
            (self._scratch / "reserve").unlink()
        except OSError:
            return False
        return True


def _object(found: _Found, route: str) -> RouteObject | None:
    known = found.table.routes.get(route)
    if known is None or found.whole:
        return known
    return known.model_copy(update={"state": known.state.model_copy(update={"drifted": True})})


def _checked(route: str) -> str:
    if not _NAME.fullmatch(route):
        raise Invalid(
            f"{route!r} is not the name of a route",
            remedy="use up to 63 lower-case letters, digits and dashes",
        )
    return route


def _text(path: Path) -> tuple[str | None, bool]:
    """The text of a file, None without one; and whether something else is in its place."""
    try:
        return path.read_text(encoding="utf-8", errors="replace"), False
    except FileNotFoundError:
        return None, False
    except OSError as error:
        # A file that may not be read can be replaced all the same where its directory may be written.
        ours = os.access(path.parent, os.W_OK | os.X_OK)
        if isinstance(error, IsADirectoryError) or (isinstance(error, PermissionError) and ours):
            return None, True
        raise _unreadable(path, error) from error


def _read_copy(text: str | None) -> Reading:
    try:
        return decode(text or "")
    except PhoenixError:
        return Reading()


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unreadable(path: Path, error: OSError) -> Retryable:
    return Retryable(f"{path} cannot be read: {error.strerror}", remedy="see its permissions and the disk")


def _unwritable(path: Path, error: OSError) -> Retryable:
    remedy = "free some space" if error.errno in _FULL else "see the directory's permissions and the disk"
    return Retryable(f"{path} cannot be written: {error.strerror}; it stands as it was", remedy=remedy)
