"""What `valkey-check-rdb --stats --format info` says of a dump. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

_LINE = re.compile(r"^\[info\] (\d+) (keys read|expires|already expired|functions)$", re.MULTILINE)
_TYPE = re.compile(r"^\[info\] db\.(\d+)\.type\.(\w+)\.keys\.total:(\d+)$", re.MULTILINE)
_FAULT = re.compile(r"^\[offset (\d+)\] (?!Checking|AUX|Selecting|Check RDB)(.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Counts:
    """Keys that are in a dump, those whose time is over among them."""

    keys: int
    expires: int
    """With a TTL."""
    expired: int
    """Whose time was over when it was looked at."""
    functions: int
    types: dict[int, dict[str, int]] = field(default_factory=dict)
    """Keys by database and type; what is 0 is left out."""

    def told(self) -> dict[str, Any]:
        """As it stands in records."""
        return {
            "keys": self.keys,
            "expires": self.expires,
            "expired": self.expired,
            "functions": self.functions,
            "databases": {str(number): dict(sorted(types.items())) for number, types in self.types.items()},
        }

    def __str__(self) -> str:
        kinds: dict[str, int] = {}
        for found in self.types.values():
            for name, count in found.items():
                kinds[name] = kinds.get(name, 0) + count
        told = ", ".join(f"{count:,} {name}" for name, count in sorted(kinds.items()))
        databases = f"{len(self.types)} database" + ("" if len(self.types) == 1 else "s")
        functions = f", {self.functions} functions" if self.functions else ""
        return f"{self.keys:,} keys in {databases} ({told or 'none'}), {self.expires:,} with a TTL{functions}"


def read(words: str) -> Counts | None:
    """The counts; None where the program did not come to its end."""
    found = {name: int(number) for number, name in _LINE.findall(words)}
    if len(found) < 4 or "RDB looks OK" not in words:
        return None
    types: dict[int, dict[str, int]] = {}
    for database, name, count in _TYPE.findall(words):
        if int(count):
            types.setdefault(int(database), {})[name] = int(count)
    return Counts(found["keys read"], found["expires"], found["already expired"], found["functions"], types)


def fault(words: str) -> str:
    """Where and why it found the dump damaged; without the names of keys, which it tells, too."""
    if "RDB ERROR DETECTED" in words:
        words = words.partition("RDB ERROR DETECTED")[2]
    found = _FAULT.search(words)
    return f"{found[2].strip()} at byte {int(found[1]):,}" if found else "the program that checks it gave up"
