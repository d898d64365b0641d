"""A Prometheus server of our own that scrapes what a test serves."""

from __future__ import annotations

import contextlib
import http.server
import json
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
from tests import debian

from phoenix_orch.testing.loopback import quiet_port


@dataclass(frozen=True, slots=True)
class Job:
    """What is scraped at `port`, and what Prometheus says of it besides."""

    name: str
    port: int
    labels: Mapping[str, str]


class RealPrometheus:
    """One running server."""

    def __init__(self, url: str, process: subprocess.Popen[bytes]) -> None:
        self.url = url
        self._process = process

    async def value(self, query: str) -> float | None:
        """Of the first series that an expression finds now."""
        async with httpx.AsyncClient() as http:
            answer = await http.get(f"{self.url}/api/v1/query", params={"query": query})
        found = answer.json()["data"]["result"]
        return float(found[0]["value"][1]) if found else None

    def pause(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def running(*jobs: Job, pace: float = 1.0) -> Iterator[RealPrometheus]:
    """Scrapes every `pace` seconds. Ready when it answers."""
    program = debian.program("prometheus", "prometheus")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        config = Path(folder) / "prometheus.yml"
        config.write_text(json.dumps(_config(jobs, pace)), "utf-8")
        port = quiet_port()
        log = stack.enter_context((Path(folder) / "log").open("wb"))
        process = subprocess.Popen(
            [
                str(program),
                f"--config.file={config}",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=warn",
            ],
            stdout=log,
            stderr=log,
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        url = f"http://127.0.0.1:{port}"
        _await_ready(url, process, Path(folder) / "log")
        yield RealPrometheus(url, process)


def _config(jobs: tuple[Job, ...], pace: float) -> dict[str, object]:
    """JSON is YAML."""
    return {
        "global": {"scrape_interval": f"{int(pace * 1000)}ms", "scrape_timeout": f"{int(pace * 900)}ms"},
        "scrape_configs": [
            {
                "job_name": job.name,
                "static_configs": [{"targets": [f"127.0.0.1:{job.port}"], "labels": dict(job.labels)}],
            }
            for job in jobs
        ],
    }


def _await_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/-/ready").status_code == httpx.codes.OK:
                return
        time.sleep(0.05)
    raise AssertionError(f"Prometheus did not come up: {log.read_text('utf-8', 'replace')[-2000:]}")


@contextlib.contextmanager
def page(text: Callable[[], bytes]) -> Iterator[int]:
    """Serves a page of metrics; gives the port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = text()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
