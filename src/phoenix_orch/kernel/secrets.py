"""Values that are known to be secret, and text of others without them. Pure.

What a check's program prints may repeat what it was given: the environment of the service, a password in
an address. Such values are looked for in every form that programs write them in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from urllib.parse import quote, quote_plus, unquote, unquote_plus

from phoenix_orch.kernel.masking import (
    MASK,
    PLACEHOLDER,
    SCHEME,
    looks_secret,
    masked_assignments,
    masked_text,
    masked_words,
)
from phoenix_orch.kernel.text import plain, plain_lines

SHORTEST_SECRET, SHORTEST_VALUE = 3, 8
"""Characters of a value that is looked for: where its name looks secret, and otherwise. Shorter ones would
take letters out of every other word."""
_NO_SECRETS = frozenset({"true", "false", "null", "none", "yes", "off", "localhost"})


class Secrets:
    """Values that must not be seen, to be taken out of what others wrote."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        forms = {form for value in values for form in _forms(value)}
        longest_first = sorted(forms, key=lambda form: (-len(form), form))
        self._any = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def hide(self, text: str) -> str:
        """`text` without the values, in any of their forms."""
        return self._any.sub(MASK, text) if self._any is not None else text

    def harmless(self, text: str) -> str:
        """What somebody else wrote, in one line, without controls and without anything secret that is
        known or looks like it."""
        seen = self.hide(plain_lines(self.hide(text)))  # escape sequences may stand in the middle of a value
        return plain(masked_assignments(masked_text(seen)))


def secrets_of(env: Mapping[str, str], *, urls: Iterable[str] = ()) -> Iterator[str]:
    """The values of an environment, and what is secret in addresses."""
    for name, value in env.items():
        if _long_enough(name, value):
            yield value
        yield from _of_address(value)
    for url in urls:
        yield from _of_address(url)


def secrets_of_words(words: Sequence[str]) -> Iterator[str]:
    """What `masked_words` hides of a command line."""
    for word, shown in zip(words, masked_words(words), strict=True):
        if shown == word:
            continue
        yield word if shown == MASK else word.partition("=")[2]
        yield from _of_address(word)


def _long_enough(name: str, value: str) -> bool:
    return len(value) >= (SHORTEST_SECRET if looks_secret(name) else SHORTEST_VALUE)


def _of_address(url: str) -> Iterator[str]:
    begin = SCHEME.search(url) or PLACEHOLDER.match(url)
    if begin is None:
        return
    login, at, _ = url[begin.end() :].rpartition("@")
    if at:
        user, _, password = login.partition(":")
        named = [("password", password), ("" if password else "token", user), ("", login)]
    else:
        named = []
    for item in re.split("[?&;#]", url[begin.end() :])[1:]:
        name, equals, value = item.partition("=")
        named.append((name, value) if equals else ("", item))
    yield from (value for name, value in named if _long_enough(name, value))


def _forms(value: str) -> Iterator[str]:
    """The value as programs print it, and each of its longer lines."""
    whole = {value, value.strip(), plain(value), plain_lines(value)}
    lines = {line.strip() for line in value.splitlines() if len(line.strip()) >= SHORTEST_VALUE}
    for form in whole | lines:
        for written in (
            form,
            unquote(form),
            unquote_plus(form),
            quote(form, safe="", errors="replace"),
            quote_plus(form, errors="replace"),
            json.dumps(form)[1:-1],
            json.dumps(form, ensure_ascii=False)[1:-1],
            repr(form)[1:-1],
        ):
            if len(written.strip()) >= SHORTEST_SECRET and written.lower() not in _NO_SECRETS:
                yield written
