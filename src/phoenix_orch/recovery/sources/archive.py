"""A folder as an archive, byte by byte as it is asked for, in memory for one file's chunk.

    files/…          the folder; a file that changed while it was read may be there more than once
    manifest.jsonl   one line for each name (`file_manifest.py`)

`tar -xp --xattrs files` gives the folder back without Phoenix.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from phoenix_orch.recovery.file_manifest import MANIFEST, Entry, Kind, line
from phoenix_orch.recovery.merkle import Merkle
from phoenix_orch.recovery.sources.file_content import CHUNK, Content, described
from phoenix_orch.recovery.sources.tar_headers import END, header, padding, plain_header, xattrs_of
from phoenix_orch.recovery.sources.tree import Name, Tree

MOST_NAMED = 10
"""Files that are named as fuzzy; of the others there is the number."""


@dataclass(slots=True)
class Tally:
    """What is in an archive."""

    entries: int = 0
    files: int = 0
    bytes: int = 0
    fuzzy: int = 0
    fuzzy_first: tuple[str, ...] = ()
    merkle_root: str = ""

    def count(self, entry: Entry) -> None:
        self.entries += 1
        if entry.kind is Kind.FILE:
            self.files += 1
            self.bytes += entry.size
        if entry.fuzzy:
            self.fuzzy += 1
            if self.fuzzy <= MOST_NAMED:
                self.fuzzy_first += (entry.path,)


class Archive:
    """Iterate over it once."""

    def __init__(self, folder: Path) -> None:
        self.tree = Tree(os.fspath(folder))
        self.tally = Tally()
        self._first: dict[tuple[int, int], str] = {}
        """First names of the files that have several."""

    def __iter__(self) -> Iterator[bytes]:
        merkle = Merkle()
        with tempfile.TemporaryFile() as manifest:
            for name in self.tree:
                entry = yield from self._member(name)
                if entry is None:
                    self.tree.left_out["vanished"] += 1
                    continue
                self.tally.count(entry)
                written = line(entry)
                merkle.add(written)
                manifest.write(written + b"\n")
            self.tally.merkle_root = merkle.root()
            size = manifest.tell()
            yield plain_header(MANIFEST, size)
            manifest.seek(0)
            while chunk := manifest.read(CHUNK):
                yield chunk
            yield padding(size) + END

    def _member(self, name: Name) -> Generator[bytes, None, Entry | None]:
        """Its bytes; returns what the manifest says of it, None when it had gone."""
        if not stat.S_ISREG(name.stat.st_mode):
            return (yield from self._without_content(name))
        if name.stat.st_nlink > 1:
            inode = name.stat.st_dev, name.stat.st_ino
            first = self._first.setdefault(inode, name.path)
            if first != name.path:
                yield header(name, {}, target=first, same=True)
                return Entry(name.path, Kind.SAME, target=first)
        content = Content(name)
        yield from content
        if content.entry is None and name.stat.st_nlink > 1:
            self._first.pop((name.stat.st_dev, name.stat.st_ino), None)
        return content.entry

    def _without_content(self, name: Name) -> Generator[bytes, None, Entry | None]:
        xattrs = xattrs_of(name.place)
        entry = described(name, xattrs)
        if entry.kind is Kind.LINK:
            try:
                target = os.readlink(name.place)  # noqa: PTH115 - text that need not be a path
            except OSError:
                return None
            entry = replace(entry, target=target)
        yield header(name, xattrs, target=entry.target)
        return entry
