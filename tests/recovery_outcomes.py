"""What came of each fault of a backup, a prune or a restore: recovery_outcomes.json, and its page.

    FAULT_OUTCOMES=write python -m pytest FILES      # writes down what these tests see
    python -m tests.recovery_outcomes                # and the page from it

Without that variable a test fails whose outcome is another one than what is written down.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from pathlib import Path

FILE = Path(__file__).with_suffix(".json")
PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "recovery-faults.md"
_HEAD = """\
# What faults of recovery leave

Generated from `tests/recovery_outcomes.json` by `python -m tests.recovery_outcomes`; do not edit. The tests
that are named write down what they see, with `FAULT_OUTCOMES=write`, and fail when they see anything else.

A storage is left with the old state or the new one, and a target with its old data or all of the new,
whatever is cut off. What a backup leaves that is killed, or one call of whose store fails, has
[a page of its own](backup-fault-table.md).

"""
_COLUMNS = ("fault", "at", "leaves", "then")
Line = dict[str, str]


def seen(act: str, fault: str, at: str, *, leaves: str, then: str) -> None:
    """A test saw this. It is what is written down already, or becomes so where that was asked for."""
    test = os.environ["PYTEST_CURRENT_TEST"].partition("::")[0]
    line = {"act": act, "fault": fault, "at": at, "leaves": leaves, "then": then, "test": test}
    if os.environ.get("FAULT_OUTCOMES") == "write":
        _keep(line)
    assert line in read(), f"another outcome than written down: {line}"


def read() -> list[Line]:
    found: list[Line] = json.loads(FILE.read_text("utf-8")) if FILE.exists() else []
    return found


def _keep(line: Line) -> None:
    """Several processes may run at once."""
    with FILE.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        others = [one for one in read() if _key(one) != _key(line)]
        FILE.write_text(json.dumps(sorted([*others, line], key=_key), indent=1) + "\n", "utf-8")
    FILE.with_suffix(".lock").unlink(missing_ok=True)


def _key(line: Line) -> tuple[str, ...]:
    return line["act"], line["test"], line["fault"], line["at"]


def rendered(lines: list[Line]) -> str:
    text = _HEAD
    for act in dict.fromkeys(line["act"] for line in lines):
        tests = dict.fromkeys(line["test"] for line in lines if line["act"] == act)
        text += f"## {act}\n\nSeen by {', '.join(f'`{test}`' for test in tests)}.\n\n"
        text += f"| {' | '.join(_COLUMNS)} |\n{'|---' * len(_COLUMNS)}|\n"
        for line in lines:
            if line["act"] == act:
                text += f"| {' | '.join(line[column] for column in _COLUMNS)} |\n"
        text += "\n"
    return text.rstrip("\n") + "\n"


if __name__ == "__main__":
    PAGE.write_text(rendered(read()), "utf-8")
    sys.exit(0)
