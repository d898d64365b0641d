"""Patterns that people write: none of them stops Phoenix, whatever it does to the one who matches it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from phoenix_orch.kernel.errors import Retryable
from phoenix_orch.orchestrator import logs as searching
from phoenix_orch.orchestrator.logs import WorkloadLogs

REVISION = "0123456789"
WITHOUT_END = r"(a+)+$"
"""Doubles the time of a matcher that backtracks with every letter of `aaa…!`."""
AS_SLOW_AS_IT_GETS = r"((a|b|ab|ba|.){1,30}){1,30}c"
"""Linear in time, with the largest factor that fits: about a second for the longest line."""


@pytest.fixture
def logged(tmp_path: Path) -> Callable[[str], int]:
    """Writes what an instance says."""
    path = tmp_path / "services" / "shop" / "logs" / f"shop-{REVISION}-1.log"
    path.parent.mkdir(parents=True)
    return path.write_text


async def longest_gap(search: asyncio.Task[list[str]]) -> float:
    """Seconds that the event loop stood still at most while the search went on."""
    longest = 0.0
    while not search.done():
        asleep = time.monotonic()
        await asyncio.wait({search}, timeout=0.01)
        longest = max(longest, time.monotonic() - asleep)
    return longest


async def test_a_pattern_that_backtracks_elsewhere_is_matched_at_once(
    tmp_path: Path, logged: Callable[[str], int]
) -> None:
    logged(f"{'a' * 16_000}!\nfine\n{'a' * 16_000}\n")
    search = asyncio.create_task(WorkloadLogs(tmp_path).matches("shop", REVISION, None, [WITHOUT_END]))
    assert await longest_gap(search) < 1.0
    assert [len(line.rpartition(": ")[2]) for line in search.result()] == [16_000]


async def test_a_search_without_end_is_given_up_and_the_loop_runs_on(
    tmp_path: Path, logged: Callable[[str], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    logged(f"{'ab' * 8_000}\n" * 100)
    monkeypatch.setattr(searching, "SEARCH_LIMIT", 0.2)
    search = asyncio.create_task(WorkloadLogs(tmp_path).matches("shop", REVISION, None, [AS_SLOW_AS_IT_GETS]))
    assert await longest_gap(search) < 1.0
    with pytest.raises(Retryable, match="not searched to their end within 200ms"):
        await search
    begun = time.monotonic()
    await asyncio.get_running_loop().shutdown_default_executor()
    assert time.monotonic() - begun < 10.0, "the thread went on although nobody waits for it"
