"""Regular expressions that people write, matched by RE2: in time linear in the text, whatever they are.

Python's `re` backtracks. A pattern such as `(a+)+$` then takes longer than anybody lives, and no other
thread of the process runs meanwhile. RE2 refuses what cannot be matched in linear time, bounds the memory
of what it takes, and lets other threads run while it matches.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

_MEMORY = 1024 * 1024
"""Bytes for one pattern: it bounds the size of the program, and so the time for each byte of a text. The
slowest pattern that fits takes about a second for 16 KiB."""
_INSTEAD = (
    (re.compile(r"\(\?<?[=!]"), "a pattern without look-around"),
    (re.compile(r"escape sequence: \\[0-9gk]|\(\?P$"), "a pattern without back-references"),
    (re.compile(r"repetition operator: .\+"), "a pattern without possessive quantifiers"),
    (re.compile(r"\(\?>"), "a pattern without atomic groups"),
    (re.compile(r"\(\?\("), "a pattern without conditions"),
    (re.compile(r"escape sequence: \\Z"), r"\z or $ for the end"),
    (re.compile(r"repetition size"), "at most 1000 repetitions"),
    (re.compile(r"too large"), "a shorter pattern, or one with fewer repetitions"),
)
"""What to write instead, by what RE2 says."""
_SYNTAX = "what is in https://github.com/google/re2/wiki/Syntax"


def checked(pattern: str) -> str:
    """The pattern as it is. Raises ValueError, with what to write instead, for one that is not of RE2."""
    _compiled(pattern)
    return pattern


def any_of(patterns: Sequence[str]) -> Callable[[bytes], bool]:
    """Tells whether one of the patterns is found in a text of UTF-8. Raises ValueError as `checked` does."""
    compiled = [_compiled(pattern) for pattern in patterns]
    return lambda text: any(pattern.search(text) is not None for pattern in compiled)


def _compiled(pattern: str) -> Any:
    import re2  # type: ignore[import-untyped]  # noqa: PLC0415 - few have patterns, and it costs 10 ms

    options = re2.Options()
    options.max_mem = _MEMORY
    options.never_capture = True  # whether, not where: the quickest there is
    options.log_errors = False  # they go into the message, not to standard error
    try:
        return re2.compile(pattern.encode(), options)
    except UnicodeEncodeError:
        raise ValueError(f"{pattern!r} holds half a character; write whole ones") from None
    except re2.error as error:
        reason = error.args[0].decode(errors="replace")
    instead = next((words for said, words in _INSTEAD if said.search(reason)), _SYNTAX)
    raise ValueError(f"{pattern!r} is not a regular expression of RE2: {reason}; write {instead}")
