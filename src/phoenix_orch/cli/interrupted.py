"""Ctrl-C in something long: what is left of it is said, and the exit status is 130."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from phoenix_orch.cli.output import tell


@contextmanager
def interruptible(left: str | Callable[[], str]) -> Iterator[None]:
    """`left`: what is there now, in words. The interrupt goes on to the entry of the program."""
    try:
        yield
    except KeyboardInterrupt:
        tell(f"interrupted: {left if isinstance(left, str) else left()}", to=sys.stderr)
        raise
