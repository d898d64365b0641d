"""Files that a person names, and standard input: read in bounds, and nothing that may never end.

A pipe without a writer waits for ever, a device gives bytes without end. Only regular files are read;
`-` is standard input, which is whatever the person connected to it, and bounded like them.
"""

from __future__ import annotations

import codecs
import contextlib
import itertools
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from phoenix_orch.kernel.errors import Invalid

STDIN = "-"
LONGEST_LINE = 1024 * 1024
"""Bytes of one line of a file that is read line by line, however long the file."""


def name_of(path: Path) -> str:
    """What the file is called in messages."""
    return "standard input" if str(path) == STDIN else str(path)


def read(path: Path, *, at_most: int, absent: str = "name a file that is there") -> bytes:
    """All of a file of at most so many bytes. `absent`: what to do when there is none. Raises Invalid."""
    name = name_of(path)
    with _opened(path, absent) as file, _told(name):
        found = file.read(at_most + 1)
    if len(found) > at_most:
        raise Invalid(
            f"{name} has more than {at_most:,} bytes", remedy="look whether it is the file you mean"
        )
    return found


@contextlib.contextmanager
def opened(path: Path, *, absent: str = "name a file that is there") -> Iterator[BinaryIO]:
    """A file of any size, or standard input, to be read piece by piece. Raises Invalid where it is none."""
    with _opened(path, absent) as file:
        yield file


@contextlib.contextmanager
def lines(path: Path) -> Iterator[Iterator[str]]:
    """The lines of a file of any length, without their ends, read as they are asked for. Raises Invalid."""
    with _opened(path, "name a recording") as file:
        yield _lines(file, name_of(path))


def _lines(file: BinaryIO, name: str) -> Iterator[str]:
    for number in itertools.count(1):
        with _told(name):
            line = file.readline(LONGEST_LINE + 1)
        if not line:
            return
        if len(line) > LONGEST_LINE:
            raise Invalid(
                f"line {number} of {name} has more than {LONGEST_LINE:,} bytes",
                remedy="look whether it is the file you mean",
            )
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise Invalid(
                f"{name} is not UTF-8: byte {error.start + 1} of line {number} is {line[error.start]:#04x}",
                remedy="name a text file",
            ) from None
        yield text.rstrip("\r\n")


@contextlib.contextmanager
def _opened(path: Path, absent: str) -> Iterator[BinaryIO]:
    name = name_of(path)
    if str(path) == STDIN:
        if sys.stdin is None:
            raise Invalid("standard input is closed", remedy="name a file")
        yield sys.stdin.buffer
        return
    with _told(name, absent):
        _refuse_others(path.stat(), name)  # opening some devices does something already
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - not the path, which may be another file by now
        _refuse_others(os.fstat(descriptor), name)
        yield file


@contextlib.contextmanager
def _told(name: str, absent: str = "") -> Iterator[None]:
    """Errors of the system as ours."""
    try:
        yield
    except FileNotFoundError:
        raise Invalid(f"there is no file {name}", remedy=absent) from None
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise Invalid(
            f"{name} cannot be read: {reason}", remedy="mend its rights, or name another file"
        ) from None


def _refuse_others(found: os.stat_result, name: str) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise Invalid(f"{name} is a directory", remedy="name a file in it")
    if not stat.S_ISREG(found.st_mode):
        raise Invalid(
            f"{name} is no regular file",
            remedy="name one; what a program writes is read with `program | phoenix … -`, or `-f -`",
        )
