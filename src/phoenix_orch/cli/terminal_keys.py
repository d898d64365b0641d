"""Single keys from a terminal, without waiting for Enter."""

from __future__ import annotations

import os
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager

_NAMED = {
    b"\r": "enter",
    b"\n": "enter",
    b"\x1b": "escape",
    b"\x1b[A": "up",
    b"\x1b[B": "down",
    b"\x1b[C": "right",
    b"\x1b[D": "left",
    b"\x1bOA": "up",
    b"\x1bOB": "down",
    b"\x1bOC": "right",
    b"\x1bOD": "left",
    b"\x04": "q",
}
"""What terminals send for keys that are no characters; Ctrl-D leaves, as everywhere."""
_LONGEST = 64


@contextmanager
def single_keys(descriptor: int) -> Iterator[None]:
    """While the body runs keys come one by one and are not shown. Ctrl-C goes on interrupting."""
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def read_keys(descriptor: int) -> list[str]:
    """What was pressed since; only after the descriptor was seen to be readable. The end of it is a `q`."""
    data = os.read(descriptor, _LONGEST)
    return keys_of(data) if data else ["q"]


def keys_of(data: bytes) -> list[str]:
    """The names of keys in what a terminal sent: several, where they were pressed quickly. Pure."""
    found, rest = [], data
    while rest:
        length = 1
        if rest[:2] in (b"\x1b[", b"\x1bO"):
            end = next(
                (at for at, byte in enumerate(rest[2:], start=2) if 0x40 <= byte <= 0x7E), len(rest) - 1
            )
            length = end + 1
        key, rest = rest[:length], rest[length:]
        if (name := _NAMED.get(key)) is not None:
            found.append(name)
        elif length == 1 and key.isascii() and key.decode("ascii").isprintable():
            found.append(key.decode("ascii"))
    return found
