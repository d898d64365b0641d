"""How an end of an instance is told, wherever it is told."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from phoenix_orch.workload.workload import Exit


@pytest.mark.parametrize(
    ("code", "reason", "detail", "text"),
    [
        (3, "exited", "", "exit status 3"),
        (0, "exited", "", "exit status 0"),
        (-11, "exited", "", "signal 11 (SIGSEGV)"),
        (-9, "killed", "", "signal 9 (SIGKILL)"),
        (None, "exited", "", "ended unseen"),
        (-15, "oom", "", "out of memory"),
        (-15, "unhealthy", "GET /healthz failed 9 times in a row", None),
        (-9, "never-ready", "not ready within 10m of its start", None),
        (0, "unhealthy", "GET /healthz failed 9 times in a row", None),
        (None, "cannot-start", "there is no program 'x'", "cannot start: there is no program 'x'"),
        (-15, "unhealthy", "", "ended by Phoenix: unhealthy"),
    ],
)
def test_an_end_in_words(code: int | None, reason: str, detail: str, text: str | None) -> None:
    end = Exit(instance="web-1", revision="r", at=datetime.now(UTC), code=code, reason=reason, detail=detail)
    assert end.text == (text or f"ended by Phoenix: {detail}")


def test_a_signal_without_a_name_is_told_by_its_number() -> None:
    assert Exit(instance="w", revision="r", at=datetime.now(UTC), code=-99).text == "signal 99"
