"""Headers of the members of an archive: POSIX.1-2001 (pax), the same for the same tree on every machine.

Times to the nanosecond, numbers of owners without names, extended attributes as `SCHILY.xattr.*`, sparse
files in GNU's format 1.0: all as GNU tar and bsdtar read them.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
from collections.abc import Mapping, Sequence

from phoenix_orch.recovery.file_manifest import FILES
from phoenix_orch.recovery.sources.tree import Name

XATTR = "SCHILY.xattr."
_OF_THE_MACHINE = frozenset({"security.selinux", "security.ima", "security.evm"})
"""Attributes that mean something on one machine only."""
_SPARSE_NAME = "GNUSparseFile.0"
BLOCK = tarfile.BLOCKSIZE
END = bytes(2 * BLOCK)
"""What ends an archive."""
Segments = Sequence[tuple[int, int]]
"""Offset and length of the parts of a file that hold data."""


def xattrs_of(place: str) -> dict[str, bytes]:
    """The extended attributes of a name, which may be a link; none where the file system has none."""
    try:
        names = sorted(os.listxattr(place, follow_symlinks=False))
        return {
            name: os.getxattr(place, name, follow_symlinks=False)
            for name in names
            if name not in _OF_THE_MACHINE
        }
    except OSError:
        return {}


def digest(xattrs: Mapping[str, bytes]) -> str:
    """Of extended attributes, for the manifest; empty for none."""
    if not xattrs:
        return ""
    parts = (b"%b\0%d\0%b" % (os.fsencode(name), len(xattrs[name]), xattrs[name]) for name in sorted(xattrs))
    return hashlib.sha256(b"".join(parts)).hexdigest()


def header(
    name: Name, xattrs: Mapping[str, bytes], *, size: int = 0, target: str = "", same: bool = False
) -> bytes:
    """Of a file with `size` bytes, a folder, a link to `target`, or (`same`) a further name of `target`."""
    info = tarfile.TarInfo(FILES if name.path == "." else f"{FILES}/{name.path}")
    info.mode = stat.S_IMODE(name.stat.st_mode)
    info.uid, info.gid = name.stat.st_uid, name.stat.st_gid
    info.mtime = max(0, name.stat.st_mtime_ns // 10**9)
    info.pax_headers = {"mtime": seconds(name.stat.st_mtime_ns)} | {
        XATTR + key: value.decode("utf-8", "surrogateescape") for key, value in xattrs.items()
    }
    if same:
        info.type, info.linkname = tarfile.LNKTYPE, f"{FILES}/{target}"
    elif stat.S_ISLNK(name.stat.st_mode):
        info.type, info.linkname = tarfile.SYMTYPE, target
    elif stat.S_ISDIR(name.stat.st_mode):
        info.type = tarfile.DIRTYPE
    else:
        info.size = size
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def sparse_header(name: Name, xattrs: Mapping[str, bytes], segments: Segments) -> bytes:
    """Of a sparse file, with the map of its segments; their bytes come next, one after the other."""
    numbers = [len(segments), *(number for segment in segments for number in segment)]
    chart = padded("".join(f"{number}\n" for number in numbers).encode("ascii"))
    info = tarfile.TarInfo(_SPARSE_NAME)
    info.mode = stat.S_IMODE(name.stat.st_mode)
    info.uid, info.gid = name.stat.st_uid, name.stat.st_gid
    info.mtime = max(0, name.stat.st_mtime_ns // 10**9)
    info.size = len(chart) + sum(length for _, length in segments)
    info.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": f"{FILES}/{name.path}",
        "GNU.sparse.realsize": str(name.stat.st_size),
        "mtime": seconds(name.stat.st_mtime_ns),
    } | {XATTR + key: value.decode("utf-8", "surrogateescape") for key, value in xattrs.items()}
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape") + chart


def plain_header(name: str, size: int) -> bytes:
    """Of a file of ours."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def padding(size: int) -> bytes:
    """What follows the content of a member."""
    return bytes(-size % BLOCK)


def padded(content: bytes) -> bytes:
    return content + padding(len(content))


def seconds(nanoseconds: int) -> str:
    """As pax has times."""
    whole, part = divmod(abs(nanoseconds), 10**9)
    return f"{'-' if nanoseconds < 0 else ''}{whole}.{part:09d}"


def nanoseconds(text: str) -> int:
    """The inverse. Raises ValueError."""
    whole, _, part = text.removeprefix("-").partition(".")
    value = int(whole) * 10**9 + int(part[:9].ljust(9, "0") or "0")
    return -value if text.startswith("-") else value
