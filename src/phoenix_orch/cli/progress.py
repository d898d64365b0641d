"""A sign of life on standard error while something takes longer than a moment."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from phoenix_orch.kernel.masking import told


@contextmanager
def working(what: str) -> Iterator[Callable[[str], None]]:
    """A spinner with the present piece of work; nothing where standard error is no terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console  # noqa: PLC0415 - only on a terminal
    from rich.text import Text  # noqa: PLC0415

    with Console(stderr=True).status(Text(told(what)), spinner="line") as status:
        yield lambda piece: status.update(Text(told(f"{what}: {piece}")))
