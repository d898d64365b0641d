"""Child processes: started, measured and ended by their own pid."""

import signal
import socket
import subprocess
from pathlib import Path

import psutil


def free_port() -> int:
    """A loopback port nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Child:
    """One started program and, for its memory, the workers it started itself."""

    def __init__(self, directory: Path, log: str, program: Path, *arguments: str) -> None:
        with (directory / log).open("ab") as output:
            self._process = subprocess.Popen(
                [program, *arguments],
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def require_alive(self) -> None:
        code = self._process.poll()
        if code is not None:
            raise RuntimeError(f"{self._process.args!r} ended with code {code}")

    def resident_bytes(self) -> int:
        """Resident memory of the process and its descendants."""
        family = psutil.Process(self._process.pid)
        return sum(member.memory_info().rss for member in [family, *family.children(recursive=True)])

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End politely, then surely. Calling it again does nothing."""
        if self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.kill()
