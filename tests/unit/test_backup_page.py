"""How the facts of a backup are told to a person."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from phoenix_orch.cli.backup_pages import listing, said
from phoenix_orch.recovery.catalog import Fault, View
from phoenix_orch.recovery.layout import Scope


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        ({"commit": "f5ba31", "changed": True, "left": {}}, "changed yes, commit f5ba31"),
        ({"kinds": {"File": 3}, "leftOut": ["a", "b"]}, "kinds (File 3), leftOut (a, b)"),
        ({"keys": 0, "fuzzy": False}, "fuzzy no, keys 0"),
        ({}, ""),
    ],
)
def test_no_signs_of_a_programming_language_are_in_it(facts: dict[str, Any], line: str) -> None:
    assert said(facts) == line


def test_what_to_do_about_a_key_of_another_machine_is_said_once() -> None:
    faults = tuple(Fault(str(n), f"record {n}: key is not trusted", "name it") for n in range(3))
    lines = listing([View(Scope("c", "n", "config"), (), faults)], datetime(2026, 11, 28, tzinfo=UTC))
    assert lines.splitlines()[-2:] == ["FAULT: record 2: key is not trusted", "  what to do: name it"]
