"""The page of faults says what the tests last saw, and leaves no case out."""

from __future__ import annotations

from tests.faults import outcomes
from tests.faults.story_cases import ENDING_OF, PHASES_OF, Kind, Victim
from tests.faults.table import PAGE, render


def test_the_page_is_what_the_outcomes_say() -> None:
    assert PAGE.read_text("utf-8") == render(outcomes.read()), "run: python -m tests.faults.table"


def test_every_case_of_the_matrix_has_its_line_with_the_right_end() -> None:
    ends = {outcomes.key(line): line["state"] for line in outcomes.read()}
    for victim in set(Victim) - {Victim.NOBODY}:
        for kind, phases in PHASES_OF.items():
            for phase in phases:
                assert ends[(victim, kind, phase)] == ENDING_OF[Kind(kind)].state
