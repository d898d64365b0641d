"""Text from elsewhere, made fit for a terminal, a log or an event.

What a person typed, a program printed or a name from outside may hold escape sequences that move the
cursor, set a title or write to the clipboard, characters that reverse the direction of what follows, and
line ends that make one entry look like two. None of that is ever wanted in what Phoenix tells.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Any

REPLACEMENT = "\ufffd"
"""Stands for a character that has no business in a line of text."""

_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # control sequences: colours, cursor, screen
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # title, clipboard, …
    r"|\x1b[ -/]*[0-~]"  # two characters, or a character set
)
_UNSURE = re.compile(r"[^\x20-\x7e]")
_NOT_SHOWN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp", "Zs"})
"""Categories of Unicode: controls, formats (of direction, width nothing), halves of pairs, separators."""


def plain(text: str, *, keep: str = "") -> str:
    """`text` in one line, without escape sequences; what is left of controls becomes a space or U+FFFD.

    Characters in `keep` stay as they are. Doing it twice changes nothing. Never raises.
    """
    if text.isprintable():
        return text
    return _UNSURE.sub(
        lambda found: found.group() if found.group() in keep else _shown(found.group()),
        _SEQUENCE.sub("", text),
    )


def counted(number: int, one: str, many: str = "") -> str:
    """`1 rollout`, `2 rollouts`, `1,000 rollouts`. `many`: where it is not `one` and an s."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def plain_lines(text: str) -> str:
    """As `plain`, for text that has lines of its own."""
    return plain(text, keep="\n")


def escaped(text: str) -> str:
    r"""JSON, or text in double quotes, with `\u` escapes for what `plain` would change; the same value."""
    if text.isprintable():
        return text
    return "".join(
        character if character == "\n" or _shown(character) == character else _escape(character)
        for character in text
    )


def is_text(text: str) -> bool:
    """It can be written as UTF-8: there is no half of a surrogate pair in it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def halves_in(value: Any, loc: tuple[int | str, ...] = ()) -> Iterator[tuple[int | str, ...]]:
    """Places in plain data (dicts, lists, scalars as in JSON) with a text or key that `is_text` refuses."""
    if isinstance(value, str):
        if not is_text(value):
            yield loc
    elif isinstance(value, dict):
        for key, part in value.items():
            if not is_text(key):
                yield (*loc, plain(key))
            yield from halves_in(part, (*loc, key))
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            yield from halves_in(part, (*loc, index))


def _shown(character: str) -> str:
    if character == " " or unicodedata.category(character) not in _NOT_SHOWN:
        return character
    return " " if character.isspace() else REPLACEMENT


def _escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[begin : begin + 4]}" for begin in range(0, len(units), 4))
