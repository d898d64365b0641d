"""One YAML text for each value, the same today and after every upgrade of a library. Pure.

What is backed up every hour must not change because a writer of YAML wraps lines elsewhere in its next
release. Keys are sorted, indentation is two, texts of several lines are block literals, so that a diff shows
lines. Every reader of YAML 1.1 and 1.2 (kubectl, sops, ruamel.yaml) finds the same value in it: what one of
them could take for a number, a date or a boolean is quoted.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./@+\-]*(?::[A-Za-z0-9_./@+\-]+)*")
_RESERVED = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan", "inf"})
_UNSAFE = re.compile(
    "[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]|[\u2028\u2029]"
)
"""What a reader may refuse, fold or swallow: controls, NEL, separators of lines, marks of byte order."""


def written(value: Any, *, sort: bool = True) -> str:
    """`value`, of dicts with text keys, lists, texts, numbers, booleans and None, as one YAML document.

    `sort=False` keeps the order of keys. Raises ValueError for what JSON cannot say.
    """
    if isinstance(value, Mapping) and value:
        lines = _mapping(value, 0, sort=sort)
    elif isinstance(value, list) and value:
        lines = _sequence(value, 0, sort=sort)
    else:
        lines = iter([_scalar(value)])
    return "\n".join(lines) + "\n"


def _mapping(value: Mapping[str, Any], depth: int, *, sort: bool) -> Iterator[str]:
    indent = "  " * depth
    for key in sorted(value) if sort else value:
        if not isinstance(key, str):
            raise ValueError(f"a key is {type(key).__name__}, and only text is one")  # noqa: TRY004
        yield from _entry(f"{indent}{_scalar(key)}:", value[key], depth, sort=sort)


def _sequence(value: Sequence[Any], depth: int, *, sort: bool) -> Iterator[str]:
    indent = "  " * depth
    for item in value:
        if isinstance(item, Mapping) and item:
            inner = _mapping(item, depth + 1, sort=sort)
        elif isinstance(item, list) and item:
            inner = _sequence(item, depth + 1, sort=sort)
        else:
            yield from _entry(f"{indent}-", item, depth, sort=sort)
            continue
        first = next(inner)
        yield f"{indent}- {first[len(indent) + 2 :]}"
        yield from inner


def _entry(head: str, value: Any, depth: int, *, sort: bool) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        yield head
        yield from _mapping(value, depth + 1, sort=sort)
    elif isinstance(value, list) and value:
        yield head
        yield from _sequence(value, depth, sort=sort)
    elif isinstance(value, str) and _is_literal(value):
        yield from _literal(head, value, depth)
    else:
        yield f"{head} {_scalar(value)}"


def _is_literal(text: str) -> bool:
    """A text of several lines that a block can hold as it is."""
    return (
        "\n" in text.rstrip("\n")
        and not text.startswith((" ", "\n", "\t"))  # the first line tells how deep the block is
        and not _UNSAFE.search(text)
        and not any(line.isspace() for line in text.splitlines())
    )


def _literal(head: str, text: str, depth: int) -> Iterator[str]:
    body = text.rstrip("\n")
    ends = len(text) - len(body)
    yield f"{head} |{('-', '')[ends] if ends < 2 else '+'}"
    indent = "  " * (depth + 1)
    for line in body.split("\n"):
        yield indent + line if line else ""
    yield from [""] * (ends - 1)


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        if _PLAIN.fullmatch(value) and value.lower() not in _RESERVED:
            return value
        return _quoted(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return json.dumps(value)
    if isinstance(value, Mapping):
        return "{}"
    if isinstance(value, list):
        return "[]"
    raise ValueError(f"{type(value).__name__} is nothing that JSON can say")


def _quoted(text: str) -> str:
    """In double quotes; JSON's escapes are YAML's, except for what needs two of them."""
    return _UNSAFE.sub(_escape, json.dumps(text, ensure_ascii=False).replace("\x7f", "\\x7f"))


def _escape(found: re.Match[str]) -> str:
    code = ord(found.group())
    return f"\\u{code:04x}"
