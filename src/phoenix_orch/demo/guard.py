"""Cleans up after a demo that had no chance to do it: killed -9, or its terminal machine gone.

    python -m phoenix_orch.demo.guard DIRECTORY [--keep]

It waits until standard input closes, which the kernel does when the demo ends in whatever way. An
orderly end says "done" first.
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

from phoenix_orch.demo.place import is_dead, leave

DONE = b"done"
_LET_GO_SECONDS = 3.0
"""The kernel closes the pipe and lets go of the lock one after the other."""


def main() -> None:
    """Wait for the end of the demo, then leave nothing of it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends with the demo, not with the terminal
    root = Path(sys.argv[1])
    if sys.stdin.buffer.read() == DONE:
        return
    deadline = time.monotonic() + _LET_GO_SECONDS
    while not is_dead(root) and time.monotonic() < deadline:
        time.sleep(0.05)
    if is_dead(root):
        leave(root, keep="--keep" in sys.argv[2:])


if __name__ == "__main__":
    main()
