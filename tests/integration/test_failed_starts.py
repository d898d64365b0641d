"""A start that fails leaves nothing running that it started, and nothing ended that ran before."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.faults.story import until

from phoenix_orch.client import Client
from phoenix_orch.kernel.errors import PhoenixError

pytestmark = pytest.mark.timeout(180)

SERVICE = """\
import http.server, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Place:
    """A data directory, a configuration, and what runs for them."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.data, self.port = directory, directory / "d", free_port()
        (directory / "service.py").write_text(SERVICE)
        self.write("web")

    def write(self, *services: str) -> None:
        """A configuration with these services."""
        word = [sys.executable, "service.py", "{port}"]
        file = {
            "router": {"listen": self.port},
            "services": {name: {"command": word, "health": {"path": "/"}} for name in services},
            "routes": {name: {"service": name, "pathPrefix": f"/{name}"} for name in services},
        }
        (self.directory / "phoenix.yaml").write_text(json.dumps(file))

    def popen(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "phoenix_orch", *arguments],
            cwd=self.directory,
            env={**os.environ, "PHOENIX_DATA_DIR": str(self.data)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def failed(self, *arguments: str) -> str:
        """What a start says that has to fail by itself, without a traceback."""
        process = self.popen(*arguments)
        said = process.communicate(timeout=90)[0]
        assert process.returncode in {1, 2, 3}, said
        assert "Traceback" not in said
        assert "what to do:" in said
        return said

    def processes(self) -> dict[str, int]:
        """Program by program what runs for the data directory now, Phoenix itself left out."""
        found: dict[str, int] = {}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                words = process.cmdline()
                ours = any(str(self.data) in word for word in words)
                marked = process.environ().get("PHOENIX_INSTANCE") and str(self.data) in str(
                    process.environ()
                )
                if (ours or marked) and "phoenix_orch" not in words:
                    name = process.name().split("-")[0]
                    found[name] = found.get(name, 0) + 1
        return found

    @contextlib.contextmanager
    def up(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """A Phoenix that has started, with both instances of `web` ready."""
        process = self.popen("up", *arguments)
        try:
            until("the service is ready", self.ready)
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
            process.communicate(timeout=60)

    def ready(self) -> bool:
        with contextlib.suppress(PhoenixError), Client(self.data, timeout=2) as client:
            return client.service("web").ready == 2
        return False


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.popen("down").communicate(timeout=60)
    assert made.processes() == {}


@pytest.mark.slow
def test_another_speed_is_refused_before_anything_is_started(place: Place) -> None:
    with place.up("--speed", "2"):
        pass
    assert place.processes() == {}
    for words in (["up"], *(["serve", name] for name in ("orchestrator", "health-validator"))):
        assert "was started with --speed 2" in place.failed(*words, "--speed", "3")
        assert place.processes() == {}, words


def test_a_start_that_found_its_port_taken_keeps_neither_a_process_nor_a_time_line(place: Place) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", place.port))
        taken.listen()
        assert "cannot listen" in place.failed("up", "--speed", "5")
    assert place.processes() == {}
    with place.up("--speed", "2"):  # another speed, and yet it starts
        pass


def test_a_start_whose_store_does_not_answer_ends_its_router(place: Place) -> None:
    place.failed("up", "--store", f"redis://127.0.0.1:{free_port()}")
    assert place.processes() == {}


def test_a_start_that_fails_after_its_services_began_ends_them(place: Place) -> None:
    (place.data / "phoenix.sock").mkdir(parents=True)
    place.failed("up")
    assert place.processes() == {}


def test_a_data_directory_with_too_long_a_name_is_refused_at_once(place: Place) -> None:
    place.data = place.directory / ("x" * 100)
    assert "at most 107" in place.failed("up")
    assert not place.data.exists()


def test_a_component_that_ends_takes_the_store_along_that_only_it_used(place: Place) -> None:
    assert "no Phoenix in" in place.failed("serve", "health-validator")
    for directory in (place.data, place.data / "valkey", place.data / "router"):
        directory.mkdir(mode=0o700)
    process = place.popen("serve", "health-validator")
    until("the store runs", lambda: place.processes().get("valkey", 0) == 1)
    lock = place.data / "health-validator.lock"
    until("it works", lambda: lock.exists() and "working" in _so_far(process))
    process.terminate()
    process.communicate(timeout=60)
    assert place.processes() == {}


def test_down_touches_no_directory_that_is_none_of_phoenix(place: Place) -> None:
    place.data.mkdir()
    (place.data / "mine").touch()
    assert "no Phoenix in" in place.failed("down")
    assert [file.name for file in place.data.iterdir()] == ["mine"]


@pytest.mark.slow
def test_down_tells_what_it_ends_and_as_a_dry_run_only_tells(place: Place) -> None:
    with place.up() as process:
        assert "already runs" in place.failed("down")
        os.kill(process.pid, signal.SIGKILL)
        process.wait(30)
        before = place.processes()
        would = place.popen("down", "--dry-run").communicate(timeout=60)[0].splitlines()
        assert [line.split()[2].split("-")[0] for line in would] == ["traefik", "web", "web", "valkey"]
        assert place.processes() == before
        done = place.popen("down").communicate(timeout=60)[0]
        assert [line.replace("would end", "ended") in done for line in would] == [True] * 4
        assert place.processes() == {}
        assert "nothing runs for" in place.popen("down").communicate(timeout=60)[0]


def test_what_ran_before_a_failed_start_goes_on(place: Place) -> None:
    with place.up() as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait(30)
        before = place.processes()
        assert set(before) >= {"valkey", "traefik"}
        place.write("web", "more")
        (place.data / "phoenix.sock").unlink()
        (place.data / "phoenix.sock").mkdir()
        place.failed("up")
        (place.data / "phoenix.sock").rmdir()
        assert place.processes()["valkey"] == place.processes()["traefik"] == 1
        users = psutil.net_connections("tcp")
        assert any(c.laddr and c.laddr[1] == place.port and c.status == "LISTEN" for c in users)


def _so_far(process: subprocess.Popen[str]) -> str:
    """The next line of the output; a wait for it is bounded by the test's own time."""
    assert process.stdout is not None
    return process.stdout.readline()
