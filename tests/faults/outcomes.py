"""Keeps what came of each fault in outcomes.json, when asked to: FAULT_OUTCOMES=write pytest tests/faults."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

FILE = Path(__file__).with_name("outcomes.json")
_ASKED = "FAULT_OUTCOMES"

Line = dict[str, object]


def key(line: Line) -> tuple[object, ...]:
    return (line["victim"], line["release"], line["phase"])


def read() -> list[Line]:
    found: list[Line] = json.loads(FILE.read_text("utf-8")) if FILE.exists() else []
    return found


def keep(line: Line) -> None:
    """Replace the line of this case, if the run was asked to write. Several processes may run at once."""
    if os.environ.get(_ASKED) != "write":
        return
    with FILE.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lines = {key(known): known for known in read()} | {key(line): line}
        FILE.write_text(
            json.dumps(sorted(lines.values(), key=lambda one: [str(part) for part in key(one)]), indent=1)
            + "\n",
            "utf-8",
        )
    FILE.with_suffix(".lock").unlink(missing_ok=True)
