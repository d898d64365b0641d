"""Whether a restored folder is the one that was copied: its names one by one against the manifest."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO

from phoenix_orch.kernel.errors import Terminal
from phoenix_orch.recovery.errors import Corrupted
from phoenix_orch.recovery.file_manifest import Entry, Kind, parsed
from phoenix_orch.recovery.merkle import Merkle
from phoenix_orch.recovery.sources.file_content import described, sha256_of
from phoenix_orch.recovery.sources.tar_headers import xattrs_of
from phoenix_orch.recovery.sources.tree import Tree

_REMEDY = "restore another backup"


def verify(folder: Path, manifest: IO[bytes], root: str, *, not_kept: Sequence[str] = ()) -> int:
    """The number of names, when all are as the manifest says and the manifest has this Merkle root.

    Owners are compared where they could be set, by root; extended attributes where the file system took all
    of them. Raises Corrupted, and names the first name that differs.
    """
    manifest.seek(0)
    merkle = Merkle()
    owners = os.geteuid() == 0
    missing = object()
    for wanted, found in itertools.zip_longest(
        _lines(manifest, merkle), described_tree(folder), fillvalue=missing
    ):
        if not isinstance(wanted, Entry):
            assert isinstance(found, Entry)
            raise Corrupted(f"{found.path!r} was restored and is not in the manifest", remedy=_REMEDY)
        if not isinstance(found, Entry):
            raise Corrupted(f"{wanted.path!r} is in the manifest and was not restored", remedy=_REMEDY)
        differing = _differing(wanted, found, owners=owners, xattrs=not not_kept)
        if differing:
            raise Corrupted(f"{wanted.path!r} is not as it was copied: {differing}", remedy=_REMEDY)
    if merkle.root() != root:
        raise Corrupted("the manifest of the files is not the one of this backup", remedy=_REMEDY)
    return merkle.leaves


def described_tree(folder: Path) -> Iterator[Entry]:
    """What a manifest of the folder would say. Raises Terminal where it cannot be read."""
    first: dict[tuple[int, int], str] = {}
    for name in Tree(os.fspath(folder)):
        inode = name.stat.st_dev, name.stat.st_ino
        regular = stat.S_ISREG(name.stat.st_mode)
        if regular and name.stat.st_nlink > 1 and first.setdefault(inode, name.path) != name.path:
            yield Entry(name.path, Kind.SAME, target=first[inode])
            continue
        entry = described(name, xattrs_of(name.place))
        try:
            if entry.kind is Kind.LINK:
                entry = replace(entry, target=os.readlink(name.place))  # noqa: PTH115
            elif entry.kind is Kind.FILE:
                size, digest = sha256_of(name.place)
                entry = replace(entry, size=size, sha256=digest)
        except OSError as error:
            raise Terminal(
                f"{name.place} cannot be read: {error.strerror}", remedy="look at its disk"
            ) from error
        yield entry


def _lines(manifest: IO[bytes], merkle: Merkle) -> Iterator[Entry]:
    for text in manifest:
        written = text.removesuffix(b"\n")
        merkle.add(written)
        yield parsed(written)


def _differing(wanted: Entry, found: Entry, *, owners: bool, xattrs: bool) -> str:
    """The fields that differ, as words."""
    fields = ["path", "kind", "size", "sha256", "target", "mtime"]
    if wanted.kind is not Kind.LINK:
        fields.append("mode")
    if owners:
        fields += ["uid", "gid"]
    if xattrs:
        fields.append("xattrs")
    return ", ".join(name for name in fields if getattr(wanted, name) != getattr(found, name))
