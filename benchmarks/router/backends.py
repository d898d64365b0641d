"""The two variants behind every candidate.

nginx with a fixed answer: it serves above 100,000 requests/s, so the backend is
never what is measured, and it can be killed and started again on the same port.
"""

from pathlib import Path

from benchmarks.router import programs
from benchmarks.router.processes import Child, free_port

SLOW_SECONDS = 0.4

CONFIGURATION = """
daemon off; master_process off; pid {name}.pid; error_log stderr crit;
events {{ worker_connections 2048; }}
http {{
  access_log off; keepalive_timeout 1h; keepalive_requests 1000000000;
  server {{
    listen 127.0.0.1:{port};
    location / {{ return 200 "{name}"; }}
    location /slow {{ echo_sleep {slow}; echo_exec /; }}
  }}
}}
"""


class Backend:
    """Answers its own name on ``/``, and on ``/slow`` after a pause."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.port = free_port()
        self._directory = directory
        (directory / f"{name}.conf").write_text(
            CONFIGURATION.format(name=name, port=self.port, slow=SLOW_SECONDS)
        )
        self._child: Child | None = None

    def start(self) -> None:
        arguments = ["-p", f"{self._directory}/", "-c", f"{self.name}.conf"]
        self._child = Child(self._directory, f"{self.name}.log", programs.nginx(), *arguments)

    def kill(self) -> None:
        if self._child is not None:
            self._child.kill()

    def stop(self) -> None:
        if self._child is not None:
            self._child.stop()
