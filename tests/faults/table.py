"""docs/reference/faults.md from outcomes.json: `python -m tests.faults.table`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from tests.faults import outcomes

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "faults.md"
_HEAD = """\
# Faults and what comes of them

Generated from `tests/faults/outcomes.json` by `python -m tests.faults.table`; do not edit. The outcomes are
written by the fault tests: `FAULT_OUTCOMES=write python -m pytest tests/faults`.

Each line is one release on a whole Phoenix with real processes, under 200 requests per second on kept-alive
connections. `kill -9` strikes in the phase that is named. A *good* release has to be promoted in the end, a
*bad* one (nine of ten answers are errors) and an *aborted* one (a good one, taken back by a person during
the bake) have to be rolled back and latched. Every case also checks that

- no event that was acknowledged before is missing, and the states follow each other as the
  [diagram](rollout-states.md) allows;
- the history has exactly one line for the release;
- weight, data plane and instances are those of the same release without a fault;
- no process of the data directory is left that nobody knows.

*Failed* counts users' requests that were answered with 5xx, or not at all, between the death and the end,
except those that the bad version itself answered with 500. *For* tells how long after the death the last of
them failed.

- A dead **Phoenix** or **Valkey** costs no request: neither is in the way of one.
- A dead **router** costs what arrives until Phoenix has started it again. One that lives and does not answer
  is replaced after some 5 s, and so long its users wait.
- A **Valkey** that lives and does not answer is replaced after some 12 s and costs no request; an abort does
  not wait for it. Nothing that it acknowledged is lost.
- When all of stable is dead users get 502 until an instance is back: what the router answers by itself is
  [told here](../how-to/server.md#what-the-router-answers-by-itself).
- A dead **replica** costs the requests that it was working on; those that cannot reach it are sent to
  another one.
- A version that **hangs** costs what was sent to it until its health path had failed three times in a row,
  with looks every 200 ms that wait for a second. One whose health path goes on answering is found by users
  who give up: it is held while it answers nobody, and taken back for giving up beside stable's users.
- A **store** that loses everything costs no request, and the release that was on its way: it ends with stable
  at rest, which is *Idle*, and the next release is an ordinary one.

"""


def render(lines: Iterable[outcomes.Line]) -> str:
    """The page."""
    rows = "".join(
        f"| {line['victim']} | {line['release']} | {line['phase']} | {line['state']} | {line['failed']} "
        f"| {_seconds(line)} |\n"
        for line in lines
    )
    return _HEAD + "| dies | release | phase | ends | failed | for |\n|---|---|---|---|---|---|\n" + rows


def _seconds(line: outcomes.Line) -> str:
    return f"{line['failing']} s" if line["failed"] else ""


if __name__ == "__main__":
    PAGE.write_text(render(outcomes.read()), "utf-8")
    sys.exit(0)
