"""All commands of the program, read from the program: a new one is tried without being named anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from phoenix_orch.cli import root

Words = tuple[str, ...]


def commands(command: Any = None, path: Words = ()) -> Iterator[tuple[Words, Any]]:
    """Every command that does something, by its words."""
    if command is None:
        for name in root.BRANCHES:
            yield from commands(root.load(name), (name,))
    elif hasattr(command, "commands"):
        for name, child in command.commands.items():
            if not child.hidden:
                yield from commands(child, (*path, name))
    else:
        yield path, command


EVERY: dict[Words, Any] = dict(commands())
