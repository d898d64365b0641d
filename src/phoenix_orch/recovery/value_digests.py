"""Signs by which an unchanged secret is known without being read. Pure.

Beside each sealed file of the repository stands one like this:

    key 5d41402a                                   which key the signs are made with
    to 1f3870be274f6c49                            to whom the values are sealed
    . 9b74c9897bac770ffc029102a200c5de             everything that is no secret value
    data.password 27b74c9897bac770ffc0291ad2a10c5d

A sign is an HMAC under a key that never leaves the machine in clear; it covers the names of the file and of
the value, so that equal passwords have different signs and guesses cannot be tried without the key. Who sees
two versions of the file sees which values differ, and nothing of the values.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from phoenix_orch.recovery.canonical_yaml import written
from phoenix_orch.recovery.secret_values import SECRET_PARTS

KEY_BYTES = 32
_SIGN = 32
"""Hexadecimal digits: that two values have the same sign by chance is beyond reckoning."""
REST = "."


def key_id(key: bytes) -> str:
    """What names the key, and tells nothing of it."""
    return hashlib.sha256(b"phoenix digest key\0" + key).hexdigest()[:8]


def of_document(document: Mapping[str, Any], where: str, key: bytes, recipients: Iterable[str]) -> str:
    """The file of signs for a Secret that is kept at `where`."""
    rest = {name: part for name, part in document.items() if name not in SECRET_PARTS}
    signs = {REST: _sign(key, where, REST, written(rest).encode())}
    for part in SECRET_PARTS:
        for name, value in (document.get(part) or {}).items():
            called = f"{part}.{name}"
            signs[called] = _sign(key, where, called, str(value).encode())
    return _text(key, recipients, signs)


def of_content(content: bytes, where: str, key: bytes, recipients: Iterable[str]) -> str:
    """The file of signs for a file that is sealed as a whole."""
    return _text(key, recipients, {"content": _sign(key, where, "content", content)})


def read(text: str) -> dict[str, str]:
    """Name to sign, of a file of signs; `key` and `to` are not among them."""
    signs = dict(line.rsplit(" ", 1) for line in text.splitlines() if " " in line)
    return {name: sign for name, sign in signs.items() if name not in ("key", "to")}


def key_of(text: str) -> str:
    """Which key the signs were made with."""
    first, _, rest = text.partition("\n")
    return first.removeprefix("key ") if rest else ""


def _text(key: bytes, recipients: Iterable[str], signs: Mapping[str, str]) -> str:
    to = hashlib.sha256("\n".join(sorted(recipients)).encode()).hexdigest()[:16]
    lines: Sequence[str] = [f"{name} {signs[name]}" for name in sorted(signs)]
    return "\n".join([f"key {key_id(key)}", f"to {to}", *lines]) + "\n"


def _sign(key: bytes, where: str, name: str, value: bytes) -> str:
    head = f"{len(where)}:{where}{len(name)}:{name}".encode()
    return hmac.new(key, head + value, "sha256").hexdigest()[:_SIGN]
