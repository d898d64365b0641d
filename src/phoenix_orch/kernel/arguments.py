"""What a program can be given: the kernel passes on no word, name or value with a zero byte in it. Pure."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator


def check_name(name: str) -> str:
    """The name itself. Raises ValueError for what cannot be the name of a variable; repeats nothing of it:
    what was meant as NAME=value holds the value."""
    if not name or "=" in name or "\0" in name:
        raise ValueError(
            "this cannot be the name of a variable; write a name without = and zero bytes, then its value"
        )
    return name


def check_text(text: str) -> str:
    """The text itself. Raises ValueError for one with a zero byte; repeats nothing of it."""
    if "\0" in text:
        raise ValueError("no program can be given a zero byte; write text without \\0")
    return text


Variable = Annotated[str, AfterValidator(check_name)]
"""Name of a variable of an environment."""
Passable = Annotated[str, AfterValidator(check_text)]
"""Text that can be a word of a command line, the value of a variable or a path."""
