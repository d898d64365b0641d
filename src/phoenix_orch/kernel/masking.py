"""What is shown in place of secrets. Pure.

Three rules, from the surest to the least sure. Values of an environment are never shown, whatever their
names. User, password, values of the query and fragment of an address are never shown, wherever the address
stands. In what others wrote (output of checks, errors of libraries) what looks like `password=…` is left
out. Too much is hidden rather than too little.

`<masked>` is what stands there instead. It is refused where a configuration is read (`masks_in`), so that
what was copied from an answer is not taken for a value.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from phoenix_orch.kernel.text import plain

MASK = "<masked>"
_MASK = re.compile(r"<masked(:[0-9a-f]{8})?>")

_SECRET_WORD = re.compile(
    r"pass(phrase|code)?|pwd?|pin|otp|keys?|creds?|salt|auth(orization)?|bearer|cookies?|session"
    r"|sig(nature)?|dsn|jwt|license|webhook"
)
_SECRET_PARTS = ("password", "passwd", "secret", "token", "apikey", "accesskey", "privatekey", "credential")
_BORDER = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+")

SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}://")
PLACEHOLDER = re.compile(r"\{[a-z]+\}")
_ADDRESS = re.compile(rf"{SCHEME.pattern}|{PLACEHOLDER.pattern}(?=[/?#])")
_TRAILING = "])}'\"`.,:;!"
_QUERY_VALUE = re.compile(r"([?&#;][^\s=?&#;<>]{1,100}=)[^\s&#]+")
_GIVES = re.compile(r"(?<=[A-Za-z0-9_.-])\\?[\"']?[ \t]{0,3}(?:=>|:=|=|:)[ \t]{0,3}")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}\Z")
_LONGEST_NAME = 64
_GIVEN = re.compile(r"\"(?:\\.|[^\"\\])*(?:\"|\Z)|'(?:\\.|[^'\\])*(?:'|\Z)|\S*", re.DOTALL)
_WHOLE_LINE = re.compile(r"(?i)\b((?:proxy-)?authorization|(?:set-)?cookie)(\\?[\"']?\s{0,3}[:=])[^\n]*")
_BEARER = re.compile(r"(?i)\b(bearer)\s+\S+")
_OPTION = re.compile(r"(?<!\S)(--?([A-Za-z][A-Za-z0-9_-]{0,63})[ \t]+)(?![-:=])\S+")
_PATTERNS = "bad"
"""Key of regular expressions of log lines: what looks like an address in one is none."""


def looks_secret(name: str) -> bool:
    """A variable, option or header of this name probably holds something that nobody else may see."""
    words = [word.lower() for word in _BORDER.split(name) if word]
    joined = "".join(words)
    return any(map(_SECRET_WORD.fullmatch, words)) or any(part in joined for part in _SECRET_PARTS)


# -- addresses -------------------------------------------------------------------------------------


def masked_url(url: str) -> str:
    """An address without user and password, values of its query, and fragment.

    For a field that holds one address; it may begin with a placeholder. Nothing before the last `@` is
    shown: a `/` or `?` in a password, which belongs escaped, would make host and path of its parts.
    """
    begin = SCHEME.match(url) or PLACEHOLDER.match(url)
    head = begin.group() if begin else ""
    place, mark, tail = _split(url[len(head) :])
    if "@" in tail:
        return head + MASK
    _, login, place = place.rpartition("@")
    return head + (f"{MASK}@" if login else "") + place + _masked_tail(mark + tail)


def _split(rest: str) -> tuple[str, str, str]:
    """(what is before the query or fragment, `?` or `#`, the rest)."""
    cut = min((at for at in map(rest.find, "?#") if at >= 0), default=len(rest))
    return rest[:cut], rest[cut : cut + 1], rest[cut + 1 :]


def _masked_tail(tail: str) -> str:
    """`?a=<masked>&b=<masked>#<masked>` for what follows a path."""
    query, mark, fragment = tail.partition("#")
    if query:
        items = re.split(r"([&;])", query[1:])
        query = "?" + "".join(item if item in "&;" else _masked_item(item) for item in items)
    return query + (f"#{MASK}" if fragment else mark)


def _masked_item(item: str) -> str:
    """A name without a value may be a value without a name; the `=` at its end is base64's."""
    name, _, value = item.partition("=")
    return f"{name}={MASK}" if value.strip("=") else MASK if name else ""


def masked_text(text: str) -> str:
    """Text with its addresses masked, also those that begin with no scheme: `user:password@host`."""
    if "://" not in text and "@" not in text and "=" not in text:
        return text
    return "".join(_masked_token(token) for token in re.split(r"(\s+)", text))


def _masked_token(token: str) -> str:
    begin = _ADDRESS.search(token)
    if begin is None or ("@" in token and ":" in token[: begin.start()]):
        return _QUERY_VALUE.sub(rf"\1{MASK}", _without_login(token))
    stop = max(begin.end(), len(token.rstrip(_TRAILING)))
    return token[: begin.start()] + masked_url(token[begin.start() : stop]) + token[stop:]


def _without_login(token: str) -> str:
    """`user:password@host` without what is before the last `@`."""
    before, at, host = token.rpartition("@")
    if not at or ":" not in before:
        return token
    return MASK if "?" in before or "#" in before else f"{MASK}@{host}"


# -- text ------------------------------------------------------------------------------------------


def told(text: str) -> str:
    """Text for an event, a cause or a log: in one line, without controls, with its addresses masked."""
    return masked_text(plain(text))


def masked_assignments(text: str) -> str:
    """Text in which every value that is given to a secret-looking name is masked."""
    text = _WHOLE_LINE.sub(rf"\1\2 {MASK}", text)
    text = _BEARER.sub(rf"\1 {MASK}", text)
    text = _OPTION.sub(lambda m: f"{m.group(1)}{MASK}" if looks_secret(m.group(2)) else m.group(), text)
    shown, at = [], 0
    while (found := _GIVES.search(text, at)) is not None:
        # The sign is looked for, and the name before it: the other way around a long line without any costs
        # its length times that of a name, and whoever writes logs can keep the process busy.
        name = _NAME.search(text[max(at, found.start() - _LONGEST_NAME) : found.start()])
        shown.append(text[at : found.end()])
        at = found.end()
        if name is not None and looks_secret(name.group()):
            given = _GIVEN.match(text, at)
            assert given is not None
            shown.append(MASK if given.group() else "")
            at = given.end()
    return "".join([*shown, text[at:]])


def masked_words(words: Sequence[str]) -> tuple[str, ...]:
    """A command line: values of secret-looking options and assignments, and addresses, are masked."""
    shown: list[str] = []
    hide = False
    for word in words:
        shown.append(MASK if hide and not word.startswith("-") else masked_assignments(masked_text(word)))
        hide = bool(re.fullmatch(r"--?[A-Za-z][A-Za-z0-9_-]*", word)) and looks_secret(word)
    return tuple(shown)


# -- answers ---------------------------------------------------------------------------------------


class Masker:
    """Masks plain data (dicts, lists, scalars as in JSON) before it leaves.

    With a key each value of an environment gets a sign of its own, `<masked:1f3b5c7d>`: the same for the
    same value of the same name, so that one sees where two revisions differ. It is an HMAC, and says
    nothing to those who do not have the key.
    """

    def __init__(self, key: bytes | None = None) -> None:
        self._key = key

    def value(self, name: str, value: str) -> str:
        """What is shown for one variable."""
        if _MASK.fullmatch(value):
            return value
        if self._key is None:
            return MASK
        text = f"{name}\0{value}".encode("utf-8", "surrogatepass")
        return f"<masked:{hmac.digest(self._key, text, hashlib.sha256).hex()[:8]}>"

    def data(self, value: Any, name: str = "") -> Any:
        """`value` with every environment, command and address in it masked. `name`: the key it stands at.

        Numbers that JSON does not have become words, as in the models themselves.
        """
        if isinstance(value, str):
            return value if name == _PATTERNS else masked_url(value) if name == "url" else masked_text(value)
        if isinstance(value, dict):
            if name == "env":
                return {key: self._hidden(key, part) for key, part in value.items()}
            return {key: self.data(part, key) for key, part in value.items()}
        if isinstance(value, list | tuple):
            if name == "command" and all(isinstance(word, str) for word in value):
                return list(masked_words(value))
            return [self.data(part, name) for part in value]
        if isinstance(value, float) and not math.isfinite(value):
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        return value

    def _hidden(self, name: str, value: Any) -> str:
        return self.value(name, value if isinstance(value, str) else json.dumps(value, sort_keys=True))


def masks_in(value: Any, loc: tuple[int | str, ...] = ()) -> Iterator[tuple[int | str, ...]]:
    """Places in plain data where a mask stands instead of a value."""
    if isinstance(value, str):
        if _MASK.search(value):
            yield loc
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from masks_in(part, (*loc, key))
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            yield from masks_in(part, (*loc, index))
