"""Placeholders in commands, addresses and environments: `{port}` stands for a value, other braces for
themselves.

A placeholder is a word in braces. `{{word}}` is the text `{word}`, `${word}` is left to whoever knows it
(a shell), and braces around anything else (JSON, say) stay as they are. A word that stands for nothing
is a misspelling, and refused.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

from pydantic_core import PydanticCustomError

CLOSE = 0.6
"""Likeness from which on one word is taken for another one misspelt."""
_PLACE = re.compile(r"\{\{([A-Za-z][A-Za-z0-9_-]*)\}\}|(?<!\$)\{([A-Za-z][A-Za-z0-9_-]*)\}")


def fill(text: str, values: Mapping[str, str]) -> str:
    """`text` with the value of each placeholder; one without a value stays as it is."""

    def value(found: re.Match[str]) -> str:
        literal, word = found.groups()
        return f"{{{literal}}}" if literal is not None else values.get(word, found.group())

    return _PLACE.sub(value, text)


def words(text: str) -> tuple[str, ...]:
    """The placeholders in `text`, without their braces."""
    return tuple(word for literal, word in _PLACE.findall(text) if not literal)


def check(text: str, known: Sequence[str], *, secret: bool = False) -> str:
    """The text itself. Raises an error for pydantic that names the first placeholder without a meaning.

    Only the placeholder is repeated, not the text around it. In a text that may be `secret` even that is
    told only when it looks like a known one misspelt: braces may stand in a password.
    """
    for word in words(text):
        if word not in known:
            found = f"{{{word}}}"
            allowed = tuple(f"{{{name}}}" for name in known)
            if secret and not difflib.get_close_matches(word, known, n=1, cutoff=CLOSE):
                told = "a placeholder that means nothing"
                context: dict[str, object] = {"allowed": (*allowed, "or {{…}} for braces as they are")}
                raise PydanticCustomError("placeholder", told, context)
            context = {
                "found": found,
                "names": allowed,
                "allowed": (*allowed, f"or {{{found}}} for the text {found}"),
            }
            raise PydanticCustomError("placeholder", "nothing is known to put in place of {found}", context)
    return text
