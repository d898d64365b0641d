"""What tests start ends with them, however they end."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from tests.cluster.awaiting import eventually

PATIENCE = 120.0
"""Seconds, on a machine that has much else to do."""
TESTS = """
import sys, time
from pathlib import Path
from tests.faults.kube_phoenix import Orders, Process

kubeconfig, log = map(Path, sys.argv[1:])
process = Process(Orders({"rollback-controller": kubeconfig}, "nowhere", "unix:///nowhere", log))
print(process.pid, flush=True)
time.sleep(3600)
"""
SYNCHRONOUS = """
import pathlib, pytest, time

@pytest.fixture(scope="session")
def made():
    found = pathlib.Path(__file__).with_name("made")
    found.touch()
    yield
    found.unlink()

def test_that_takes_long(made):
    time.sleep(3600)
"""
ASYNCHRONOUS = """
import asyncio, pathlib, pytest

@pytest.mark.anyio
async def test_that_takes_long():
    found = pathlib.Path(__file__).with_name("made")
    found.touch()
    try:
        await asyncio.sleep(3600)
    finally:
        found.unlink()
"""


@contextmanager
def python(*words: str | Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, *map(str, words)], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def kubeconfig_of_nobody(path: Path, port: int) -> Path:
    """An API server that takes connections and never answers."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "one", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "one", "user": {}}],
        "contexts": [{"name": "one", "context": {"cluster": "one", "user": "one"}}],
        "current-context": "one",
    }
    path.write_text(json.dumps(content), "utf-8")
    return path


@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL])
def test_a_phoenix_of_the_tests_ends_when_they_are_killed(tmp_path: Path, number: signal.Signals) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        kubeconfig = kubeconfig_of_nobody(tmp_path / "kubeconfig", nobody.getsockname()[1])
        with python("-c", TESTS, kubeconfig, tmp_path / "log") as tests:
            assert tests.stdout is not None
            phoenix = psutil.Process(int(tests.stdout.readline()))
            nobody.accept()[0].close()  # it is at work
            tests.send_signal(number)
            tests.wait(PATIENCE)
            eventually("Phoenix ends", lambda: not phoenix.is_running(), PATIENCE)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("test", [SYNCHRONOUS, ASYNCHRONOUS], ids=["synchronous", "asynchronous"])
def test_sigterm_undoes_what_tests_have_begun(tmp_path: Path, test: str) -> None:
    file, made = tmp_path / "test_long.py", tmp_path / "made"
    file.write_text(test, "utf-8")
    with python("-m", "pytest", "-p", "tests.conftest", "--rootdir", tmp_path, file) as tests:
        eventually("it has begun", made.exists, PATIENCE)
        tests.send_signal(signal.SIGTERM)
        assert tests.wait(PATIENCE) == pytest.ExitCode.INTERRUPTED
    assert not made.exists()
