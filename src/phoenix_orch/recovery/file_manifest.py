"""The manifest of a copied folder: one line of JSON for each name in it, in the order of the walk. Pure.

It is the last member of the archive. Its Merkle root stands in the manifest of the backup, so that neither a
file nor a line can be changed, left out or added without being noticed.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from phoenix_orch.recovery.errors import Corrupted

FILES = "files"
"""Folder of the archive below which the copied folder is."""
MANIFEST = "manifest.jsonl"
"""Name of the manifest in the archive."""


class Kind(StrEnum):
    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    """A symbolic one."""
    SAME = "same"
    """A further name of a file that came before: a hard link."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One name of the folder. Paths are relative to it, "." is the folder itself; bytes that are no UTF-8
    are kept as `os.fsdecode` gives them."""

    path: str
    kind: Kind
    mode: int = 0
    """Permission bits."""
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    """Nanoseconds since 1970."""
    size: int = 0
    sha256: str = ""
    """Of the content, holes read as zeros."""
    target: str = ""
    """Where a link leads; of a further name, the first one."""
    xattrs: str = ""
    """SHA-256 over the extended attributes; empty where there are none."""
    fuzzy: bool = False
    """It changed while it was read, at every attempt: what is in the copy may never have been in the file."""


def line(entry: Entry) -> bytes:
    """Without the end of line. Fields that say nothing are left out."""
    fields = {name: value for name, value in asdict(entry).items() if value not in {"", 0}}
    return json.dumps(fields, separators=(",", ":"), sort_keys=True).encode("ascii")


def parsed(text: bytes) -> Entry:
    """Raises Corrupted for what is no such line."""
    try:
        fields: dict[str, Any] = json.loads(text)
        entry = Entry(**{**fields, "kind": Kind(fields["kind"])})
    except (ValueError, TypeError, KeyError) as error:
        raise Corrupted(
            "the manifest of the files has a line that is none", remedy="restore another backup"
        ) from error
    if line(entry) != text:
        raise Corrupted(
            "the manifest of the files has a line that nobody wrote so", remedy="restore another backup"
        )
    return entry
