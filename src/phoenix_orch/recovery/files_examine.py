"""An archive of a folder is examined as it is opened: each file against the manifest in it, without a disk.

What is kept of it meanwhile is a line for each name, in a temporary file.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import tarfile
import tempfile
from collections.abc import Iterator
from typing import IO, Any, cast

from phoenix_orch.recovery.errors import Corrupted
from phoenix_orch.recovery.file_manifest import FILES, MANIFEST, Kind, parsed
from phoenix_orch.recovery.handover import Handover, OtherSide
from phoenix_orch.recovery.manifest import Level, Manifest
from phoenix_orch.recovery.merkle import Merkle
from phoenix_orch.recovery.restore.untar import AHEAD, CHUNK, Reader

_REMEDY = "restore another backup"


class FilesStructure:
    """For `volume.tar`."""

    level = Level.STRUCTURE

    def tools(self) -> dict[str, str]:
        return {}

    @contextlib.contextmanager
    def examine(self, manifest: Manifest) -> Iterator[FilesExamination]:
        root = str(manifest.content.get("merkleRoot", ""))
        stream = Handover()
        with OtherSide(stream, lambda: examined(stream, root)) as side:
            yield FilesExamination(stream, side)


class FilesExamination:
    def __init__(self, stream: Handover, side: OtherSide[int]) -> None:
        self._stream = stream
        self._side = side

    def write(self, data: bytes, /) -> int:
        return self._stream.write(data)

    def finish(self) -> str:
        """Raises GivenUp where the archive is not whole; leaving `examine` then raises why."""
        self._stream.end()
        return f"{self._side.result()} names are in the archive as its manifest says"

    def found(self) -> dict[str, Any]:
        return {"names": self._side.result()}


def examined(source: Reader, root: str) -> int:
    """The number of names. Raises Corrupted where the archive is not what its manifest says, or that is not
    the one with this Merkle root."""
    try:
        with (
            tempfile.TemporaryFile() as seen,
            tarfile.open(fileobj=cast("IO[bytes]", source), mode="r|", bufsize=AHEAD) as archive,
        ):
            count = _compared(_members(archive, seen), seen, root)
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise Corrupted(f"this is no archive of files: {error}", remedy=_REMEDY) from error
    while source.read(CHUNK):
        pass
    return count


def _members(archive: tarfile.TarFile, seen: IO[bytes]) -> Iterator[bytes]:
    """Notes what there is in `seen`; gives the lines of the manifest when it comes."""
    last: dict[str, Any] = {}
    while (info := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined]
        if info.name == MANIFEST and info.isreg():
            _note(seen, last)
            content = archive.extractfile(info)
            assert content is not None
            yield from (line.removesuffix(b"\n") for line in content)
            if archive.next() is not None:
                raise Corrupted("something comes after the manifest", remedy=_REMEDY)
            return
        found = _described(archive, info)
        if (
            last and found["path"] != last["path"]
        ):  # a file that was read again comes again; the last one counts
            _note(seen, last)
        last = found
    raise Corrupted("the archive has no manifest: its end is missing", remedy=_REMEDY)


def _described(archive: tarfile.TarFile, info: tarfile.TarInfo) -> dict[str, Any]:
    path = "." if info.name == FILES else info.name.removeprefix(f"{FILES}/")
    found: dict[str, Any] = {"path": path, "size": 0, "sha256": "", "target": ""}
    if info.isdir():
        return found | {"kind": Kind.FOLDER}
    if info.issym():
        return found | {"kind": Kind.LINK, "target": info.linkname}
    if info.islnk():
        return found | {"kind": Kind.SAME, "target": info.linkname.removeprefix(f"{FILES}/")}
    content = archive.extractfile(info)
    if content is None:
        raise Corrupted(f"{info.name!r} is a device or a pipe", remedy=_REMEDY)
    hashed, size = hashlib.sha256(), 0
    while chunk := content.read(CHUNK):
        hashed.update(chunk)
        size += len(chunk)
    return found | {"kind": Kind.FILE, "size": size, "sha256": hashed.hexdigest()}


def _note(seen: IO[bytes], found: dict[str, Any]) -> None:
    if found:
        seen.write(json.dumps(found).encode("ascii") + b"\n")


def _compared(lines: Iterator[bytes], seen: IO[bytes], root: str) -> int:
    merkle = Merkle()
    first = next(lines, None)  # everything before the manifest is noted by then
    seen.seek(0)
    for text, noted in itertools.zip_longest(itertools.chain([first] if first else [], lines), seen):
        if text is None or noted is None:
            raise Corrupted("the archive and its manifest do not have the same names", remedy=_REMEDY)
        merkle.add(text)
        entry = parsed(text)
        found = json.loads(noted)
        differing = [name for name, value in found.items() if getattr(entry, name) != value]
        if differing:
            raise Corrupted(
                f"{entry.path!r} is not as the manifest says: {', '.join(differing)}", remedy=_REMEDY
            )
    if merkle.root() != root:
        raise Corrupted("the manifest of the files is not the one of this backup", remedy=_REMEDY)
    return merkle.leaves
