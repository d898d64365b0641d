"""The programs that a demo starts itself. Each gets a session of its own: Ctrl-C is for the demo alone,
which then ends them in the right order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

from phoenix_orch.demo.guard import DONE
from phoenix_orch.demo.place import MARK

LINE_LIMIT = 1 << 20


class Child:
    """One running program."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def python(cls, root: Path, module: str, *arguments: str, log: Path, pipe: bool = False) -> Child:
        """Run `python -m MODULE` for the demo in `root`; what it says is appended to `log`.

        `pipe`: the demo holds its standard input, and reads its standard output.
        """
        with log.open("ab") as file:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # modules lie where Phoenix is installed, not in the working directory
                "-m",
                module,
                *arguments,
                stdin=asyncio.subprocess.PIPE if pipe else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if pipe else file,
                stderr=file,
                cwd=root,
                env={**os.environ, MARK: str(root)},
                start_new_session=True,
                limit=LINE_LIMIT,
            )
        return cls(process)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> int | None:
        """The exit status, or None while it runs."""
        return self._process.returncode

    async def wait(self) -> int:
        return await self._process.wait()

    async def line(self) -> bytes:
        """The next line of its output; empty at the end."""
        assert self._process.stdout is not None
        return await self._process.stdout.readline()

    async def stop(self, grace: float) -> None:
        """SIGTERM, SIGKILL after `grace` seconds. Idempotent."""
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace):
                await self._process.wait()
        except TimeoutError:
            self._signal(signal.SIGKILL)
            await self._process.wait()
        self._close_input()

    async def dismiss(self, grace: float) -> None:
        """Tell a guard that all is well; it ends by itself."""
        if self._process.stdin is not None:
            with contextlib.suppress(ConnectionError):
                self._process.stdin.write(DONE)
                await self._process.stdin.drain()
        self._close_input()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._process.wait()
        self._signal(signal.SIGKILL)
        await self._process.wait()

    def _close_input(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)


def last_words(log: Path, lines: int = 8) -> str:
    """The end of a log file."""
    with contextlib.suppress(OSError):
        return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    return ""
