"""A service for tests, with the standard library alone, that misbehaves when it is asked to.

GET /healthz · /hold?s=1 (answers after a second) · /sick, /well (health) · /crash?code=3 ·
/grow?mb=50 · /child (starts a process in its group) · /escape (starts one in a session of its own) ·
/hide (the same, with an empty environment; ?deaf=1: it ignores SIGTERM) ·
/daemon (the same, and its parent ends at once) · anything else says who answers.
"""

# ruff: noqa: T201 - what it prints is its log

from __future__ import annotations

import argparse
import http.server
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import urllib.parse

DAEMON = "setsid sleep 600 > /dev/null 2>&1 & echo $!"
DEAF = ["/bin/sh", "-c", "trap '' TERM; sleep 600"]
SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
ballast: list[bytes] = []
healthy = threading.Event()


class Shop(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        asked = {name: values[0] for name, values in urllib.parse.parse_qs(url.query).items()}
        code, said = 200, url.path
        match url.path:
            case "/healthz":
                code = 200 if healthy.is_set() else 503
            case "/sick":
                healthy.clear()
            case "/well":
                healthy.set()
            case "/hold":
                print("holding", flush=True)
                time.sleep(float(asked["s"]))
            case "/crash":
                os._exit(int(asked.get("code", "3")))
            case "/grow":
                ballast.append(os.urandom(1024) * 1024 * int(asked["mb"]))
            case "/child":
                said = str(subprocess.Popen(SLEEPER).pid)
            case "/escape":
                said = str(subprocess.Popen(SLEEPER, start_new_session=True).pid)
            case "/hide":
                program = DEAF if asked.get("deaf") else SLEEPER
                said = str(subprocess.Popen(program, start_new_session=True, env={}).pid)
            case "/daemon":
                said = subprocess.check_output(["/bin/sh", "-c", DAEMON], env={}, text=True).strip()
            case _:
                said = json.dumps(
                    {
                        "pid": os.getpid(),
                        "instance": os.environ.get("PHOENIX_INSTANCE"),
                        "version": os.environ.get("PHOENIX_VERSION"),
                        "environment": dict(os.environ),
                        "arguments": sys.argv[1:],
                        "cwd": str(pathlib.Path.cwd()),
                    }
                )
        body = said.encode()
        self.send_response(code)
        self.send_header("content-length", str(len(body)))
        if url.path != "/healthz":
            self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--port", type=int, required=True)
    options.add_argument("--ready-after", type=float, default=0.0, help="seconds; negative: never")
    options.add_argument("--exit-after", type=float, default=None)
    options.add_argument("--exit-code", type=int, default=3)
    options.add_argument("--ignore-sigterm", action="store_true")
    options.add_argument("--count", type=float, default=None, help="seconds between numbered lines")
    options.add_argument("--version", default="")
    given = options.parse_args()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", given.port), Shop)
    server.daemon_threads = False

    def end(*_: object) -> None:
        print("ending", flush=True)
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, signal.SIG_IGN if given.ignore_sigterm else end)
    if given.ready_after >= 0:
        late(given.ready_after, healthy.set)
    if given.exit_after is not None:
        late(given.exit_after, lambda: os._exit(given.exit_code))
    if given.count is not None:
        late(0, lambda: count(given.count))
    print("started", flush=True)
    server.serve_forever(poll_interval=0.01)
    server.server_close()  # waits for the requests under way


def late(seconds: float, what: object) -> None:
    timer = threading.Timer(seconds, what)
    timer.daemon = True
    timer.start()


def count(pause: float) -> None:
    number = 0
    while True:
        print(f"line {number:09d} {'x' * 80}", flush=True)
        number += 1
        if pause:
            time.sleep(pause)


if __name__ == "__main__":
    main()
