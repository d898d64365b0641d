"""A whole Phoenix with tasks in its phoenix.yaml, and the command line to it."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

from phoenix_orch.client import Client
from phoenix_orch.kernel.errors import PhoenixError

FILE = """
router: {{listen: "127.0.0.1:{port}"}}
services: {{}}
tasks:
  greet: {{command: "sh -c 'echo hello; echo password=hunter2'"}}
  fail: {{command: "sh -c 'exit 3'"}}
  wait: {{command: "sleep 1000"}}
  nightly: {{command: "true", schedule: "30 2 * * *", jitter: 10m}}
"""


class Phoenix:
    """Runs as long as it is entered."""

    def __init__(self, directory: Path) -> None:
        self.data_dir = directory / "d"
        self._file = directory / "phoenix.yaml"
        self._file.write_text(FILE.format(port=_free_port()))
        self._log = directory / "log"

    def __enter__(self) -> Self:
        with self._log.open("w") as log:
            self._process = subprocess.Popen(self._line("up", "-f", str(self._file)), stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(PhoenixError), self.client() as client:
                client.task_kinds()
                return self
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(60)

    def client(self) -> Client:
        return Client(self.data_dir)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self._line(*words), capture_output=True, text=True, timeout=60, check=False)

    def json(self, *words: str) -> Any:
        done = self.run(*words, "--output", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def _line(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "phoenix_orch", "--data-dir", str(self.data_dir), *words]


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
