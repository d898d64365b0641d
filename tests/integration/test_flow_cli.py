"""`phoenix freeze`, `get groups` and `report dora`, over the real API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.fake_phoenix import FakeOperations, serving

from phoenix_orch.cli.main import run
from phoenix_orch.rollout.status import State


@pytest.fixture
def phoenix(tmp_path: Path) -> Iterator[FakeOperations]:
    with serving(FakeOperations(State.IDLE), tmp_path) as operations:
        yield operations


@pytest.fixture
def typed(phoenix: FakeOperations, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command; its exit status, output and errors."""

    def typed(*words: str) -> tuple[int, str, str]:
        status = run([*words, "--data-dir", str(tmp_path)])
        found = capsys.readouterr()
        return status, found.out, found.err

    return typed


def test_a_freeze_is_begun_listed_and_ended(typed: Any) -> None:
    assert "no freeze" not in typed("freeze", "list")[1]
    status, out, _ = typed("freeze", "start", "--name", "now", "--for", "2h", "--reason", "incident")
    assert status == 0
    assert "2026-03-01T14:00:00Z" in out
    found = json.loads(typed("freeze", "list", "-o", "json")[1])
    assert [(one["freeze"]["name"], one["source"], one["open"]) for one in found] == [
        ("now", "person", True),
        ("year-end", "configuration", False),
    ]
    assert found[0]["by"]
    assert found[0]["freeze"]["reason"] == "incident"
    assert typed("freeze", "end", "now")[0] == 0
    assert "now" not in typed("freeze", "list")[1].split()


def test_a_dry_run_begins_nothing_and_refuses_what_would_be_refused(typed: Any) -> None:
    before = typed("freeze", "list")[1]
    assert typed("freeze", "start", "--name", "now", "--reason", "x", "--dry-run")[0] == 0
    assert typed("freeze", "list")[1] == before
    status, _, err = typed("freeze", "start", "--name", "year-end", "--reason", "x", "--dry-run")
    assert status == 2
    assert "there is a freeze 'year-end' already" in err


@pytest.mark.parametrize(
    "words",
    [
        ("freeze", "start"),
        ("freeze", "start", "--reason", " "),
        ("freeze", "start", "--reason", "x", "--until", "tomorrow"),
        ("freeze", "start", "--reason", "x", "--until", "2020-01-01"),
        ("freeze", "start", "--reason", "x", "--for", "2h", "--until", "2030-01-01"),
        ("freeze", "start", "--reason", "x", "--name", "Not A Name"),
        ("freeze", "start", "--reason", "x", "--rollout", "We?b"),
        ("freeze", "end", "nothing"),
        ("freeze", "end", "year-end"),
        ("freeze", "override", "web", "--reason", "x"),
        ("freeze", "override", "nothing", "--reason", "x"),
        ("report", "dora", "--since", "0s"),
        ("report", "dora", "--since", "month"),
        ("report", "dora", "nothing"),
    ],
)
def test_bad_input_is_refused_with_a_remedy(typed: Any, words: tuple[str, ...]) -> None:
    status, out, err = typed(*words)
    assert status == 2, (out, err)
    assert "what to do" in err


def test_a_release_that_waits_is_let_through_with_a_reason(typed: Any, phoenix: FakeOperations) -> None:
    typed("freeze", "start", "--name", "now", "--reason", "incident")
    status, out, _ = typed("freeze", "override", "web", "--reason", "the fix")
    assert status == 0
    assert "2222222222 of web waits for no freeze" in out


def test_groups_say_where_their_members_stand(typed: Any) -> None:
    found = json.loads(typed("get", "groups", "-o", "json")[1])
    assert found[0]["group"]["maxConcurrent"] == 1
    assert [(one["rollout"], one["standing"]) for one in found[0]["members"]] == [("web", "waiting")]
    assert "shop" in typed("get", "groups")[1]


def test_the_report_gives_each_number_with_its_count(typed: Any) -> None:
    found = json.loads(typed("report", "dora", "--since", "7d", "-o", "json")[1])
    total = found["total"]
    assert (total["deployments"], total["changeFailures"]["n"], total["changeFailures"]["of"]) == (1, 1, 2)
    out = typed("report", "dora")[1]
    for part in ("1 of 2", "n=1", "Lead time:", "fewer than 10"):
        assert part in out
