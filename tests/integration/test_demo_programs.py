"""The demo's service, load and guard as real processes on loopback."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from phoenix_orch.demo.place import MARK, end_processes, fresh_place, home, is_dead, processes_of, reap
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.workload.processes import DATA_DIR

Start = Callable[..., subprocess.Popen[bytes]]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], bool], what: str, seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"{what} within {seconds} s")
        time.sleep(0.02)


@pytest.fixture
def start() -> Iterator[Start]:
    with contextlib.ExitStack() as stack:

        def run(module: str, *arguments: str, **options: object) -> subprocess.Popen[bytes]:
            process = subprocess.Popen(  # type: ignore[call-overload]
                [sys.executable, "-m", f"phoenix_orch.demo.{module}", *arguments], **options
            )
            stack.callback(_end, process)
            return process

        yield run


def _end(process: subprocess.Popen[bytes]) -> None:
    with process:
        process.kill()


def listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.fixture
def shop(start: Start) -> Callable[..., tuple[int, subprocess.Popen[bytes]]]:
    def run(fault: str = "") -> tuple[int, subprocess.Popen[bytes]]:
        port = free_port()
        process = start(
            "service",
            "--port",
            str(port),
            "--version",
            "7",
            env={**os.environ, "SHOP_FAULT": fault},
            stderr=subprocess.PIPE,
        )
        until(lambda: listening(port), "the shop listens")
        return port, process

    return run


Shop = Callable[..., tuple[int, subprocess.Popen[bytes]]]


def ask(port: int, method: str, path: str) -> tuple[int, bytes, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers
    finally:
        connection.close()


def test_the_shop_serves_and_counts(shop: Shop) -> None:
    port, _ = shop()
    assert ask(port, "GET", "/healthz")[0] == 200
    assert ask(port, "GET", "/")[1] == b"welcome\n"
    status, body, headers = ask(port, "POST", "/checkout")
    assert (status, body, headers["X-Shop-Version"]) == (200, b"order placed\n", "7")
    assert ask(port, "GET", "/nowhere")[0] == 404
    text = ask(port, "GET", "/metrics")[1].decode()
    assert 'requests_total{code="200",path="/checkout"} 1.0' in text
    assert "orders_total 1.0" in text
    assert "request_duration_seconds_count 2.0" in text
    assert re.search(r"^process_start_time_seconds 1\.\d+e\+09$", text, re.MULTILINE)


def test_requests_that_arrive_together_are_answered_in_order(shop: Shop) -> None:
    port, _ = shop()
    with socket.create_connection(("127.0.0.1", port), timeout=5) as raw:
        raw.sendall(
            b"POST /checkout HTTP/1.1\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\n\r\n"
            b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n"
        )
        answer = b"".join(iter(lambda: raw.recv(4096), b""))
    assert re.findall(rb"\n(order placed|welcome|ok)\n", answer) == [b"order placed", b"welcome", b"ok"]


def test_the_shop_finishes_what_is_in_flight_at_sigterm(shop: Shop) -> None:
    port, process = shop("slow:1")
    with socket.create_connection(("127.0.0.1", port), timeout=5) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert ask(port, "GET", "/healthz")[0] == 200  # one loop serves all: the slow one was begun before
        process.send_signal(signal.SIGTERM)
        answer = b"".join(iter(lambda: raw.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b"Connection: close" in answer
    assert process.wait(5) == 0
    assert not listening(port)


def test_the_crash_version_dies_at_its_request_and_says_so(shop: Shop) -> None:
    port, process = shop("crash:2")
    assert ask(port, "GET", "/healthz")[0] == 200
    assert ask(port, "GET", "/")[0] == 200
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        ask(port, "GET", "/")
    assert process.wait(5) == 1
    assert process.stderr is not None
    assert b"panic:" in process.stderr.read()


def test_the_leaking_version_keeps_what_a_request_took(shop: Shop) -> None:
    port, process = shop("leak:8")
    assert ask(port, "GET", "/")[0] == 200
    before = psutil.Process(process.pid).memory_info().rss
    for _ in range(4):
        assert ask(port, "GET", "/")[0] == 200
    assert psutil.Process(process.pid).memory_info().rss - before > 30 * 2**20


def test_the_unready_version_says_so_and_serves(shop: Shop) -> None:
    port, _ = shop("unready:inf")
    assert ask(port, "GET", "/healthz")[0] == 503
    assert ask(port, "GET", "/")[0] == 200


def test_a_version_that_is_unready_at_first_gets_ready(shop: Shop) -> None:
    port, _ = shop("unready:4")
    assert ask(port, "GET", "/healthz")[0] == 503
    until(lambda: ask(port, "GET", "/healthz")[0] == 200, "it gets ready")


def test_the_shop_listens_where_it_is_told(start: Start) -> None:
    port = free_port()
    start("service", "--host", "127.0.0.2", "--port", str(port))

    def there() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.2", port), timeout=1):
            return True
        return False

    until(there, "the shop listens")
    assert not listening(port)


def test_the_shop_refuses_a_fault_it_does_not_know(start: Start) -> None:
    process = start(
        "service",
        "--port",
        "1",
        env={**os.environ, "SHOP_FAULT": "fire:1"},
        stderr=subprocess.PIPE,
    )
    assert process.wait(10) == 2
    assert process.stderr is not None
    assert b"SHOP_FAULT: 'fire:1' is no fault" in process.stderr.read()


def last_line(output: bytes) -> dict[str, object]:
    found: dict[str, object] = json.loads(output.splitlines()[-1])
    return found


def test_the_load_counts_what_users_see_and_is_cheap(shop: Shop, start: Start) -> None:
    port, _ = shop()
    load = start(
        "load",
        *("--port", str(port), "--rate", "300", "--seconds", "3"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert load.stdout is not None
    lines = [load.stdout.readline() for _ in range(6)]
    cpu = psutil.Process(load.pid).cpu_times()
    lines += load.stdout.readlines()
    assert load.wait(10) == 0
    seen = last_line(b"".join(lines))
    sent = seen["sent"]
    assert isinstance(sent, int)
    assert 880 <= sent <= 900  # what falls due in the last tick is not sent
    assert seen["failed"] == 0
    assert seen["byVersion"] == {"7": sent}
    assert cpu.user + cpu.system < 0.25 * 3 + 0.4  # a quarter of a core, and its start


def test_the_load_counts_errors_and_lost_requests(shop: Shop, start: Start) -> None:
    port, process = shop("errors:1")
    load = start(
        "load",
        *("--port", str(port), "--rate", "100"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert load.stdout is not None
    before = json.loads(load.stdout.readline())
    process.kill()
    load.stdout.readline()
    load.stdout.readline()
    load.terminate()
    seen = last_line(load.stdout.read())
    assert load.wait(10) == 0
    assert before["byStatus"]["500"] == before["failed"] > 0
    assert seen["byStatus"]["0"] > 0  # type: ignore[index]
    assert seen["failed"] == seen["sent"]


def test_the_load_ends_when_its_parent_does(shop: Shop, start: Start) -> None:
    port, _ = shop()
    load = start("load", "--port", str(port), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert load.stdout is not None
    assert load.stdin is not None
    load.stdout.readline()
    load.stdin.close()
    assert load.wait(10) == 0


def test_the_load_ends_when_nobody_listens(shop: Shop, start: Start) -> None:
    port, _ = shop()
    load = start("load", "--port", str(port), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert load.stdout is not None
    load.stdout.readline()
    load.stdout.close()
    assert load.wait(15) is not None


# -- nothing stays behind --------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "phoenix-demo"


WAITING = """
import signal, sys
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
signal.pause()
"""


def marked(root: Path, *words: str, by: str = MARK) -> subprocess.Popen[bytes]:
    """A process of the demo in `root`; `stubborn`: it does not care for SIGTERM."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            WAITING,
            *words,
        ],
        env={**os.environ, by: str(root)},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def alive(process: subprocess.Popen[bytes]) -> bool:
    """Whether it runs. Its status may have been taken by whoever waited for it first."""
    return process.poll() is None


def test_a_place_is_fresh_and_leaves_nothing(cache: Path) -> None:
    with fresh_place() as first, fresh_place() as second:
        assert first != second
        assert home() == cache == first.parent
        assert not is_dead(first)
        stubborn = marked(first, "stubborn")
        instance = marked(first, by=DATA_DIR)
        bystander = marked(second)
        try:
            assert {p.pid for p in processes_of(first)} == {stubborn.pid, instance.pid}
            assert end_processes(first) == 2
            assert not alive(stubborn)
            assert not alive(instance)
            assert bystander.poll() is None
        finally:
            _end(stubborn)
            _end(instance)
            _end(bystander)
    assert [path.name for path in cache.iterdir()] == [".lock"]


@pytest.mark.usefixtures("cache")
def test_a_place_is_kept_when_asked(tmp_path: Path) -> None:
    with fresh_place(keep=True) as kept, fresh_place(directory=tmp_path / "mine") as mine:
        (kept / "log").write_text("kept")
        (mine / "log").write_text("kept")
    with fresh_place():  # which cleans up after demos that were killed
        pass
    assert (kept / "log").exists()
    assert (mine / "log").exists()


@pytest.mark.usefixtures("cache")
def test_a_directory_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter").write_text("dear")
    with pytest.raises(Invalid, match="not empty"), fresh_place(directory=tmp_path / "mine"):
        pytest.fail("the block must not run")
    assert (tmp_path / "mine" / "letter").read_text() == "dear"


HOLDER = """
import sys, time
from phoenix_orch.demo.place import fresh_place
with fresh_place() as root:
    print(root, flush=True)
    time.sleep(60)
"""


def dead_demo() -> tuple[Path, subprocess.Popen[bytes]]:
    """A demo that was killed -9, and a process it left behind."""
    with subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE) as demo:
        assert demo.stdout is not None
        root = Path(demo.stdout.readline().decode().strip())
        left = marked(root)
        demo.kill()
    return root, left


@pytest.mark.usefixtures("cache")
def test_the_next_demo_cleans_up_after_a_killed_one() -> None:
    root, left = dead_demo()
    try:
        with fresh_place() as fresh:
            assert not root.exists()
            assert fresh.exists()
        assert not alive(left)
    finally:
        _end(left)


def test_what_is_not_a_demo_is_not_touched(cache: Path) -> None:
    (cache / "photos").mkdir(parents=True)
    assert reap(cache) == []
    assert (cache / "photos").exists()


def ignores(process: subprocess.Popen[bytes], number: signal.Signals) -> bool:
    status = Path(f"/proc/{process.pid}/status").read_text()
    mask = int(re.findall(r"^SigIgn:\s+(\w+)$", status, re.MULTILINE)[0], 16)
    return bool(mask >> (number - 1) & 1)


@pytest.mark.usefixtures("cache")
def test_the_guard_cleans_up_when_its_demo_is_gone(start: Start) -> None:
    root, left = dead_demo()
    guard = start("guard", str(root), stdin=subprocess.PIPE)
    try:
        assert guard.stdin is not None
        until(lambda: ignores(guard, signal.SIGHUP), "the guard is up")
        guard.send_signal(signal.SIGHUP)  # the terminal is gone: no reason to leave
        guard.stdin.close()
        assert left.wait(15) == -signal.SIGTERM
        assert guard.wait(15) == 0
        assert not root.exists()
    finally:
        _end(left)


@pytest.mark.usefixtures("cache")
def test_the_guard_leaves_an_orderly_end_alone(start: Start) -> None:
    with fresh_place() as root:
        guard = start("guard", str(root), stdin=subprocess.PIPE)
        guard.communicate(b"done", timeout=10)
        assert guard.returncode == 0
        assert root.exists()
