"""The whole history of a configuration as one Git bundle, in constant memory.

`git clone config.bundle` opens it. The newest version of each file is whole; older ones are differences to
the next newer one, at most `DEEPEST` in a row, so that a large folder that changes every hour costs its
changes. What is read is checked against its hash before it is written: no bundle comes of a torn repository.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from dulwich.errors import FileFormatException
from dulwich.object_format import DEFAULT_OBJECT_FORMAT
from dulwich.object_store import BaseObjectStore, DiskObjectStore
from dulwich.objects import Blob, Commit, ObjectID, Tree, hex_to_sha, sha_to_hex
from dulwich.pack import PackChunkGenerator, UnpackedObject, create_delta

from phoenix_orch.recovery.errors import Corrupted

DEEPEST = 50
"""Differences in a row, as Git has it."""
FOLDER = 0o40000
BRANCH = b"refs/heads/main"
_HEAD = b"# v2 git bundle\n"
_LONGEST_LINE = 4096
_DELTA = 7
_CHECKSUM = 20
_NAMES = {Commit.type_num: b"commit", Tree.type_num: b"tree", Blob.type_num: b"blob"}
Sha = bytes
"""20 bytes."""
_TORN = (
    FileFormatException,
    AssertionError,
    ValueError,
    LookupError,
    TypeError,
    EOFError,
    OSError,
    struct.error,
    zlib.error,
)
"""What the library raises over bytes that are no object; of a missing one KeyError, which is told apart."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One object of a bundle, and the one it is written as a difference to."""

    sha: Sha
    base: Sha | None


def whole(store: BaseObjectStore, sha: Sha) -> tuple[int, bytes]:
    """Type and content of an object that is what its hash says. Raises Corrupted."""
    shown = sha_to_hex(sha).decode()  # type: ignore[arg-type]
    try:
        kind, content = store.get_raw(sha_to_hex(sha))  # type: ignore[arg-type]
    except KeyError:
        raise Corrupted(f"object {shown[:12]} of the repository of configurations is missing") from None
    except _TORN as error:
        raise Corrupted(
            f"object {shown[:12]} of the repository of configurations cannot be read: {type(error).__name__}"
        ) from None
    head = b"%s %d\0" % (_NAMES.get(kind, b"?"), len(content))
    if hashlib.sha1(head + content, usedforsecurity=False).digest() != sha:
        raise Corrupted(f"object {shown[:12]} of the repository of configurations is not what was written")
    return kind, content


def history(store: BaseObjectStore, head: ObjectID) -> Iterator[tuple[ObjectID, Commit]]:
    """The commits from `head` back to the first. Raises Corrupted."""
    at: ObjectID | None = head
    while at is not None:
        kind, content = whole(store, hex_to_sha(at))
        found = Commit.from_raw_string(kind, content) if kind == Commit.type_num else None
        if not isinstance(found, Commit):
            raise Corrupted(f"object {at.decode()[:12]} of the repository of configurations is no commit")
        yield at, found
        at = found.parents[0] if found.parents else None


def tree(store: BaseObjectStore, sha: Sha) -> dict[bytes, tuple[int, Sha]]:
    """Name to mode and object, of a folder. Raises Corrupted."""
    kind, content = whole(store, sha)
    try:
        found = Tree.from_raw_string(kind, content)
        assert isinstance(found, Tree)
        return {entry.path: (entry.mode, hex_to_sha(entry.sha)) for entry in found.items()}
    except _TORN:
        raise Corrupted(f"object {sha.hex()[:12]} of the repository of configurations is no folder") from None


def planned(store: BaseObjectStore, head: ObjectID) -> list[Planned]:
    """Every object that `head` needs, newest first: each base before what is a difference to it."""
    plan: dict[Sha, Planned] = {}
    depths: dict[Sha, int] = {}

    def add(sha: Sha, base: Sha | None) -> None:
        depth = depths.get(base, 0) + 1 if base is not None else 0
        if depth > DEEPEST:
            base, depth = None, 0
        if depth:
            depths[sha] = depth
        plan[sha] = Planned(sha, base)

    def folder(sha: Sha, newer: Sha | None) -> None:
        if sha in plan:
            return
        add(sha, newer)
        beside = tree(store, newer) if newer is not None else {}
        for name, (mode, part) in tree(store, sha).items():
            if part in plan:
                continue
            other_mode, other = beside.get(name, (0, None))
            base = other if other_mode == mode and other in plan else None
            if mode == FOLDER:
                folder(part, base)
            else:
                add(part, base)

    newer: Sha | None = None
    for commit_id, commit in history(store, head):
        add(hex_to_sha(commit_id), None)
        root = hex_to_sha(commit.tree)
        folder(root, newer)
        newer = root
    return list(plan.values())


def records(store: BaseObjectStore, plan: list[Planned]) -> Iterator[UnpackedObject]:
    """The objects as they go into a pack, one at a time. Raises Corrupted."""
    for one in plan:
        kind, content = whole(store, one.sha)
        if one.base is not None:
            of_base, base = whole(store, one.base)
            delta = list(create_delta(base, content))
            if of_base == kind and sum(map(len, delta)) < len(content) // 2:
                yield UnpackedObject(_DELTA, delta_base=one.base, sha=one.sha, decomp_chunks=delta)
                continue
        yield UnpackedObject(kind, sha=one.sha, decomp_chunks=[content])


def bundle(store: BaseObjectStore, head: ObjectID) -> Iterator[bytes]:
    """The bundle, piece by piece. Raises Corrupted where the repository is torn."""
    plan = planned(store, head)
    yield _HEAD + head + b" " + BRANCH + b"\n" + head + b" HEAD\n\n"
    yield from pack(store, plan)


def pack(store: BaseObjectStore, plan: list[Planned]) -> Iterator[bytes]:
    """A pack of these objects, piece by piece. Raises Corrupted."""
    yield from PackChunkGenerator(DEFAULT_OBJECT_FORMAT, num_records=len(plan), records=records(store, plan))


class Pieces:
    """Pieces of bytes as something to read from."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = b""
        self.ended = False

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes, all that are left where it is negative; b"" at the end."""
        if size == 0:
            return b""
        parts, have = [self._left], len(self._left)
        while (size < 0 or have < size) and not self.ended:
            piece = next(self._pieces, None)
            if piece is None:
                self.ended = True
            else:
                parts.append(piece)
                have += len(piece)
        found = b"".join(parts)
        if size < 0:
            size = len(found)
        self._left = found[size:]
        return found[:size]


def unpack(read: Callable[[int], bytes], store: DiskObjectStore) -> ObjectID:
    """Take all objects of a bundle into the store; the commit it is about. Raises Corrupted.

    Nothing is in the store before the whole bundle was read and its checksum held.
    """
    source: BinaryIO = io.BufferedReader(_Raw(read))
    if source.readline(_LONGEST_LINE) != _HEAD:
        raise Corrupted("what was given is no Git bundle")
    heads = {}
    while (line := source.readline(_LONGEST_LINE)) != b"\n":
        head, _, name = line.rstrip(b"\n").partition(b" ")
        if not name or line.startswith(b"-"):
            raise Corrupted("the Git bundle is not whole")
        heads[name] = head
    if BRANCH not in heads:
        raise Corrupted("the Git bundle holds no configuration of Phoenix")
    file, commit, abort = store.add_pack()
    try:
        _copied(source, file)
        commit()
    except (*_TORN, Corrupted) as error:
        _given_up(file, abort)
        if isinstance(error, (Corrupted, OSError)):
            raise
        raise Corrupted(f"the Git bundle holds what is no object: {type(error).__name__}") from None
    return ObjectID(heads[BRANCH])


def _copied(source: BinaryIO, sink: BinaryIO) -> None:
    """Raises Corrupted unless the pack ends with its checksum: the library writes another one instead of
    comparing it."""
    digest, end = hashlib.sha1(usedforsecurity=False), b""
    while piece := source.read(1 << 20):
        sink.write(piece)
        end += piece
        digest.update(end[:-_CHECKSUM])
        end = end[-_CHECKSUM:]
    if end != digest.digest():
        raise Corrupted("the Git bundle is not what was written: its checksum does not hold")


def _given_up(file: BinaryIO, abort: Callable[[], None]) -> None:
    file.close()
    with contextlib.suppress(FileNotFoundError):
        abort()


class _Raw(io.RawIOBase):
    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        found = self._read(len(buffer))
        buffer[: len(found)] = found
        return len(found)
