"""What differs between two versions of a file of the configuration, as lines; values of secrets never. Pure.

A sealed value is shown as the beginning of its sign, `<sealed 27b74c9897ba>`: another one where it changed.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

from phoenix_orch.recovery import value_digests

_SHOWN = 12
"""Digits of a sign."""
_VALUE = re.compile(r'^(?P<head> +(?P<name>"[^"]*"|[^\s:]+): )"?ENC\[AES256_GCM,[^\]]*\]"?$')
_PART = re.compile(r"^(?P<part>data|stringData):$")


def shown(text: str, signs: str) -> str:
    """A sealed file for people: without its seal, and with signs in place of values. What is not sealed is as
    it is. `signs`: its file of signs, or empty."""
    if "\nsops:\n" not in text:
        return text
    known, lines, part = value_digests.read(signs), list[str](), ""
    for line in text.partition("\nsops:\n")[0].splitlines():
        if not line.startswith(" "):
            found = _PART.match(line)
            part = found["part"] if found else ""
        value = _VALUE.match(line)
        if value:
            name = value["name"].strip('"')
            sign = known.get(f"{part}.{name}", "")[:_SHOWN]
            lines.append(f"{value['head']}<sealed {sign or 'of an unknown sign'}>")
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"


def sealed_whole(signs: str) -> str:
    """A file that is sealed as a whole, for people."""
    sign = value_digests.read(signs).get("content", "")[:_SHOWN]
    return f"<sealed {sign or 'of an unknown sign'}>\n"


def unified(path: str, old: str | None, new: str | None) -> list[str]:
    """Lines of a diff as `git diff` has them."""
    return list(
        difflib.unified_diff(
            [] if old is None else old.splitlines(),
            [] if new is None else new.splitlines(),
            "/dev/null" if old is None else f"a/{path}",
            "/dev/null" if new is None else f"b/{path}",
            lineterm="",
        )
    )


def values_changed(old: str, new: str) -> tuple[str, ...]:
    """Names of the secret values that differ between two files of signs; `.` for all the rest."""
    before: Mapping[str, str] = value_digests.read(old)
    after: Mapping[str, str] = value_digests.read(new)
    return tuple(sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name)))
