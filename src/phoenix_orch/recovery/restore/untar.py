"""An archive of a folder, unpacked below an empty folder and nowhere else.

The archive comes from a place that others may write, so it is not trusted before it was verified: a name that
leads out of the folder, a further name of a file outside, devices and pipes end it with an error. Links are
made only after everything else, so that nothing is ever written through one; where they lead is theirs.
"""

from __future__ import annotations

import contextlib
import os
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol, cast

from phoenix_orch.kernel.errors import Terminal
from phoenix_orch.recovery.errors import Corrupted, Stopped
from phoenix_orch.recovery.file_manifest import FILES, MANIFEST
from phoenix_orch.recovery.sources.tar_headers import XATTR, nanoseconds

CHUNK = 1024 * 1024
AHEAD = 64 * 1024
"""Bytes that are read at once: tarfile moves what is left of them at each header."""
LARGEST_MANIFEST = 4 * 2**30
_REMEDY = "it was not made by Phoenix; restore another backup"


class Reader(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class _Later:
    """A link, or a folder, whose attributes are set when nothing more comes into it."""

    path: str
    info: tarfile.TarInfo


@dataclass(slots=True)
class Unpacked:
    not_kept: set[str] = field(default_factory=set)
    """Names of extended attributes that the file system did not take."""


def unpack(
    source: Reader,
    to: Path,
    manifest: IO[bytes],
    *,
    progress: Callable[[int], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> Unpacked:
    """Everything into `to`, which is made; the archive's manifest into `manifest`.

    `progress` gets bytes of content. Raises Corrupted for what is no such archive, Terminal where the disk
    does not take it, Stopped.
    """
    unpacking = _Unpacking(to, progress, stop)
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", source), mode="r|", bufsize=AHEAD) as archive:
            unpacking.all_of(archive, manifest)
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise Corrupted(f"this is no archive of files: {error}", remedy="restore another backup") from error
    except OSError as error:
        raise Terminal(
            f"{to} cannot be written: {error.strerror}", remedy="make room there, or mend its rights"
        ) from error
    while source.read(CHUNK):  # what lies behind the end belongs to the digest of the stream
        pass
    return unpacking.done


class _Unpacking:
    def __init__(self, to: Path, progress: Callable[[int], None], stop: Callable[[], bool]) -> None:
        self._to = os.fspath(to)
        self._progress = progress
        self._stop = stop
        self._folders: list[_Later] = []
        self._links: list[_Later] = []
        self.done = Unpacked()

    def all_of(self, archive: tarfile.TarFile, manifest: IO[bytes]) -> None:
        whole = False
        for info in _members(archive):
            if self._stop():
                raise Stopped("the restore was stopped; nothing was changed")
            if whole:
                raise Corrupted(f"{info.name!r} comes after the manifest", remedy=_REMEDY)
            if info.name == MANIFEST and info.isreg():
                self._manifest(archive, info, manifest)
                whole = True
            else:
                self._member(archive, info)
        if not whole:
            raise Corrupted(
                "the archive has no manifest: its end is missing", remedy="restore another backup"
            )
        self._last()

    def _member(self, archive: tarfile.TarFile, info: tarfile.TarInfo) -> None:
        path = _inside(info.name)
        place = self._place(path)
        if info.isdir():
            self._folders.append(_Later(path, info))
            os.mkdir(place, 0o700)  # noqa: PTH102
        elif info.issym():
            self._links.append(_Later(path, info))
        elif info.islnk():
            os.link(self._place(_inside(info.linkname)), place, follow_symlinks=False)
        elif info.isreg():
            self._file(archive, info, place)
        else:
            raise Corrupted(f"{info.name!r} is a device or a pipe", remedy=_REMEDY)

    def _file(self, archive: tarfile.TarFile, info: tarfile.TarInfo, place: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(place)  # noqa: PTH108 - an earlier attempt to read the same file
        content = archive.extractfile(info)
        assert content is not None
        descriptor = os.open(
            place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        with os.fdopen(descriptor, "wb") as file, content:
            sparse = cast("list[tuple[int, int]] | None", info.sparse)
            place_in_file = 0
            for offset, length in sparse or [(0, info.size)]:
                if offset < place_in_file:
                    raise Corrupted(f"the holes of {info.name!r} overlap", remedy=_REMEDY)
                _skip(content, offset - place_in_file)
                file.seek(offset)
                self._copy(content, file, length)
                place_in_file = offset + length
            file.truncate(info.size)
        self._attributes(place, info)

    def _copy(self, source: IO[bytes], file: IO[bytes], length: int) -> None:
        while length > 0:
            chunk = source.read(min(CHUNK, length))
            if not chunk:
                raise Corrupted("the archive ends within a file", remedy="restore another backup")
            file.write(chunk)
            self._progress(len(chunk))
            length -= len(chunk)

    def _manifest(self, archive: tarfile.TarFile, info: tarfile.TarInfo, manifest: IO[bytes]) -> None:
        if info.size > LARGEST_MANIFEST:
            raise Corrupted(f"a manifest of {info.size:,} bytes is none", remedy=_REMEDY)
        content = archive.extractfile(info)
        assert content is not None
        with content:
            self._copy(content, manifest, info.size)

    def _last(self) -> None:
        """Links, then folders from the bottom up: no name is added after a folder got its times."""
        for later in self._links:
            place = self._place(later.path)
            os.symlink(later.info.linkname, place)  # noqa: PTH211
            self._attributes(place, later.info)
        for later in reversed(self._folders):
            self._attributes(self._place(later.path), later.info)

    def _attributes(self, place: str, info: tarfile.TarInfo) -> None:
        link = info.issym()
        if os.geteuid() == 0:
            os.chown(place, info.uid, info.gid, follow_symlinks=False)
        for key, value in info.pax_headers.items():
            if key.startswith(XATTR):
                name = key.removeprefix(XATTR)
                try:
                    os.setxattr(
                        place, name, value.encode("utf-8", "surrogateescape"), follow_symlinks=not link
                    )
                except OSError:
                    self.done.not_kept.add(name)
        if not link:
            os.chmod(place, info.mode & 0o7777)  # noqa: PTH101
        mtime = (
            nanoseconds(info.pax_headers["mtime"]) if "mtime" in info.pax_headers else int(info.mtime) * 10**9
        )
        os.utime(place, ns=(mtime, mtime), follow_symlinks=False)

    def _place(self, path: str) -> str:
        return self._to if path == "." else os.path.join(self._to, path)  # noqa: PTH118


def _skip(hole: IO[bytes], length: int) -> None:
    """The library gives zeros for it, and cannot be told to go on behind it in a stream."""
    while length > 0 and (zeros := hole.read(min(CHUNK, length))):
        length -= len(zeros)


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """One after the other; the library would keep all of them in memory."""
    while (info := archive.next()) is not None:
        yield info
        archive.members.clear()  # type: ignore[attr-defined]


def _inside(name: str) -> str:
    """The path below the folder. Raises Corrupted for one that leads elsewhere."""
    if name == FILES:
        return "."
    parts = name.split("/")
    if parts[0] != FILES or any(part in {"", ".", ".."} for part in parts) or "\0" in name:
        raise Corrupted(f"{name!r} leads out of the folder", remedy=_REMEDY)
    return "/".join(parts[1:])
