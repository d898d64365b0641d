"""An application with state on a volume, for a pod: a ledger in SQLite and, beside it, how long it is.

    python ledger.py FOLDER PORT

It writes all the time, the two one after the other: they agree only while it rests. GET / tells what it has,
POST /rest and /wake what hooks of backups call, POST /spoil loses every other entry.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PAUSE = 0.01


class Ledger:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._turn = threading.Lock()
        self._awake = threading.Event()
        self._awake.set()
        self.rests = self.wakes = 0
        with self._open() as base:
            base.execute("CREATE TABLE IF NOT EXISTS entries (number INTEGER PRIMARY KEY, at REAL)")

    def write_on(self) -> None:
        while True:
            self._awake.wait()
            with self._turn:
                if self._awake.is_set():
                    with self._open() as base:
                        base.execute("INSERT INTO entries (at) VALUES (?)", (time.time(),))
                    self._note(self.entries())
            time.sleep(PAUSE)

    def rest(self) -> None:
        self._awake.clear()
        with self._turn:
            self.rests += 1
            with self._open() as base:
                base.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def wake(self) -> None:
        self.wakes += 1
        self._awake.set()

    def spoil(self) -> None:
        with self._turn, self._open() as base:
            base.execute("DELETE FROM entries WHERE number % 2 = 0")

    def entries(self) -> int:
        with self._open() as base:
            (count,) = base.execute("SELECT count(*) FROM entries").fetchone()
        return int(count)

    def told(self) -> dict[str, object]:
        with self._open() as base:
            first, last, count = base.execute(
                "SELECT min(number), max(number), count(*) FROM entries"
            ).fetchone()
        return {"entries": count, "whole": count == 0 or last - first + 1 == count} | {
            "rests": self.rests,
            "wakes": self.wakes,
        }

    def _open(self) -> sqlite3.Connection:
        base = sqlite3.connect(self._folder / "ledger.db", timeout=10)
        base.execute("PRAGMA journal_mode=WAL")
        return base

    def _note(self, entries: int) -> None:
        unfinished = self._folder / "length.unfinished"
        unfinished.write_text(json.dumps({"entries": entries}), "utf-8")
        unfinished.replace(self._folder / "length.json")


class Answers(BaseHTTPRequestHandler):
    ledger: Ledger

    def do_GET(self) -> None:
        self._say(self.ledger.told())

    def do_POST(self) -> None:
        {"/rest": self.ledger.rest, "/wake": self.ledger.wake, "/spoil": self.ledger.spoil}[self.path]()
        self._say({})

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""

    def _say(self, content: dict[str, object]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    Answers.ledger = Ledger(Path(sys.argv[1]))
    threading.Thread(target=Answers.ledger.write_on, daemon=True).start()
    ThreadingHTTPServer(("", int(sys.argv[2])), Answers).serve_forever()


if __name__ == "__main__":
    main()
