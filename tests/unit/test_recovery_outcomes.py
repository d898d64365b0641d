"""The page of the faults of recovery says what the tests last saw, and leaves no step out."""

from __future__ import annotations

import pytest
from tests.recovery_outcomes import PAGE, read, rendered

from phoenix_orch.recovery import prune, rekey
from phoenix_orch.recovery.restore.journal import State

ROOT = PAGE.parents[2]


def test_the_page_is_what_the_outcomes_say() -> None:
    assert PAGE.read_text("utf-8") == rendered(read()), "run: python -m tests.recovery_outcomes"


@pytest.mark.parametrize(
    ("act", "steps"),
    [
        ("A prune", set(prune.Step) - {prune.Step.OUTSIDE}),
        ("Sealing a backup for other keys", set(rekey.Step)),
        (
            "A restore of Redis",
            {State.COPYING, State.STAGING, State.CUTTING, State.CHECKING, State.RETURNING},
        ),
    ],
)
def test_every_step_at_which_it_may_be_killed_has_its_line(act: str, steps: set[str]) -> None:
    lines = read()
    assert {str(step) for step in steps} <= {
        line["at"] for line in lines if (line["act"], line["fault"]) == (act, "kill -9")
    }


def test_every_test_that_is_named_is_there() -> None:
    assert [line["test"] for line in read() if not (ROOT / line["test"]).is_file()] == []
