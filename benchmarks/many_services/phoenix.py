"""Phoenix as it is, with a beat on its event loop that writes down how late it comes.

python phoenix.py FILE ... phoenix_orch.cli.main ARGUMENTS
"""

from __future__ import annotations

import asyncio
import runpy
import sys
import time
from pathlib import Path

BEAT = 0.05
"""Seconds from one beat to the next."""
MODULE = "phoenix_orch.cli.main"


class Beat:
    """Writes `moment lateness` in seconds for every beat."""

    def __init__(self, loop: asyncio.AbstractEventLoop, path: Path) -> None:
        self._loop = loop
        self._file = path.open("a", buffering=1, encoding="ascii")
        loop.call_soon(self._next, loop.time())

    def _next(self, due: float) -> None:
        now = self._loop.time()
        self._file.write(f"{time.time():.3f} {now - due:.4f}\n")
        self._loop.call_later(BEAT, self._next, now + BEAT)


def main() -> None:
    path, words = Path(sys.argv[1]), sys.argv[2:]
    new_event_loop = asyncio.events.new_event_loop

    def beating() -> asyncio.AbstractEventLoop:
        loop = new_event_loop()
        Beat(loop, path)
        return loop

    asyncio.events.new_event_loop = beating
    sys.argv = ["phoenix", *words[words.index(MODULE) + 1 :]]
    runpy.run_module(MODULE, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
