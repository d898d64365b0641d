"""What a mistyped word was probably meant to be. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from pydantic.alias_generators import to_camel


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """The known word that `word` was probably meant to be, or nothing."""
    folded = {name.lower().replace("-", "").replace("_", ""): name for name in known}
    exact = folded.get(word.lower().replace("-", "").replace("_", ""))
    if exact is not None and exact != word:
        return exact
    for guess in (word, to_camel(word.replace("-", "_")) if word else word):
        close = difflib.get_close_matches(guess, known, n=1, cutoff=0.6)
        if close and close[0] != word:
            return close[0]
    return ""
