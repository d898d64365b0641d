"""Modules that are imported when something of them is asked for.

Taking a release back from the command line has to be quick on a small machine, too, and half of the time of
a command can go into importing what other commands use.
"""

from __future__ import annotations

import importlib
from typing import Any


class Later:
    """Stands for a module of the command line. What type checkers see is an ordinary import beside it."""

    def __init__(self, name: str) -> None:
        """`name`: without the package."""
        self._name = f"{__package__}.{name}"

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)
