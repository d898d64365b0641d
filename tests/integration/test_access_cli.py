"""`phoenix up` on a port, and the commands about getting in, as a person uses them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest

from phoenix_orch.client import Client

pytestmark = pytest.mark.timeout(200)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Machine:
    """One Phoenix without services."""

    def __init__(self, directory):
        self.directory = directory
        self.data = directory / "d"
        router = {"listen": f"127.0.0.1:{free_port()}"}
        (directory / "phoenix.yaml").write_text(json.dumps({"services": {}, "router": router}))
        self.process = None

    def command(self, *words):
        return [sys.executable, "-P", "-m", "phoenix_orch.cli.main", *words]

    def run(self, *words, status=0):
        line = self.command("--data-dir", str(self.data), *words)
        done = subprocess.run(
            line, capture_output=True, text=True, timeout=100, check=False, cwd=self.directory
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout if status == 0 else done.stderr

    def start(self, *words, **environment):
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command("up", "--data-dir", str(self.data), *words),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env={**os.environ, **environment},
            )
        return self

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0, self.log()

    def log(self):
        return (self.directory / "log").read_text()

    def address(self):
        """Where it answers, once it does."""
        limit = time.monotonic() + 100
        while (
            "answers the API and the console" not in self.log() or not (self.data / "phoenix.sock").exists()
        ):
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < limit, self.log()
            time.sleep(0.05)
        with Client(self.data) as client:
            return client.health()["api"]


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    made = Machine(tmp_path_factory.mktemp("m")).start("--listen", "127.0.0.1:0")
    try:
        made.address()
        yield made
        made.stop()
    finally:
        made.process.kill()


def test_the_first_token_gets_in_from_elsewhere(machine):
    token = machine.data / "token"
    assert token.stat().st_mode & 0o777 == 0o600
    words = ("--server", machine.address(), "--token-file", str(token))
    assert "first" in machine.run(*words, "token", "list")
    assert token.read_text().strip() not in machine.log()


def test_a_token_is_made_and_revoked(machine):
    tried = machine.run("token", "create", "ci", "--role", "operator", "--for", "30d", "--dry-run")
    assert tried.startswith("would make token ")
    made = json.loads(machine.run("token", "create", "ci", "--role", "operator", "-o", "json"))
    headers = {"authorization": f"Bearer {made['token']}"}
    address = machine.address()
    assert httpx.get(f"{address}/api/v1/identity", headers=headers).json()["name"] == "ci"
    assert "operator" in machine.run("token", "list")
    name = made["view"]["id"]
    assert "would be revoked" in machine.run("token", "revoke", name, "--dry-run")
    assert "is revoked" in machine.run("token", "revoke", name, "--reason", "done")
    assert httpx.get(f"{address}/api/v1/identity", headers=headers).status_code == 401
    assert "revoked already" in machine.run("token", "revoke", name, status=2)
    assert "--for" in machine.run("token", "create", "x", "--for", "soon", status=2)


def test_what_create_prints_is_a_token_file(machine, tmp_path):
    file = tmp_path / "token"
    file.write_text(machine.run("token", "create", "ci", "--role", "viewer"))
    words = ("--server", machine.address(), "--token-file", str(file))
    assert "no services" in machine.run(*words, "get", "services")
    file.write_text("two words")
    assert "a token is one" in machine.run(*words, "get", "services", status=2)


def test_an_address_of_the_console_lets_a_browser_in_once(machine):
    url = machine.run("console").strip()
    assert url.startswith(f"{machine.address()}/login/code?code=")
    with httpx.Client() as browser:
        assert browser.get(url).headers["location"] == "/"
        assert browser.get(f"{machine.address()}/console").status_code == 200
    assert httpx.get(url).status_code == 401
    assert url.partition("code=")[2] not in machine.log()


def test_nothing_waits_for_a_second_person(machine):
    assert "nothing waits" in machine.run("approval", "list")
    assert "there is no approval 'x'" in machine.run("approval", "approve", "x", status=2)


@pytest.mark.slow
def test_a_port_that_is_taken_is_told_before_anything_is_served(machine, tmp_path):
    other = Machine(tmp_path)
    taken = machine.address().removeprefix("http://")
    told = other.run("up", "--listen", taken, status=2)
    assert "listens there" in told
    assert "--listen off" in told
    assert "open to other machines" in other.run("up", "--listen", ":7007", status=2)


@pytest.mark.slow
def test_without_a_port_there_is_no_token_and_no_address(tmp_path):
    alone = Machine(tmp_path).start("--no-listen")
    try:
        limit = time.monotonic() + 100
        while not (alone.data / "phoenix.sock").exists():
            assert time.monotonic() < limit, alone.log()
            time.sleep(0.05)
        assert "unix socket only" in alone.run("console", status=2)
        assert not (alone.data / "token").exists()
        alone.stop()
    finally:
        alone.process.kill()
