"""Retention keeps what `restic forget` keeps, guards off: of 1,000 random histories, by many policies.

All histories are one repository, as snapshots of different hosts: restic forgets them in one go.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.debian import foreign, program
from tests.restic_repository import Repository

from phoenix_orch.recovery.retention import Candidate, Policy, retain

HISTORIES = 1000
POLICIES = (
    Policy(24, 7, 4, 8),
    Policy(24, 7, 4, 0),
    Policy(3, 2, 2, 0),
    Policy(0, 7, 0, 0),
    Policy(0, 0, 3, 1),
    Policy(2, 0, 5, 2),
    Policy(0, 0, 0, 5),
)
BEGIN = datetime(2026, 12, 1, tzinfo=UTC)
"""Over the end of a year with 53 weeks."""
PASSWORD = "of a test"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class Restic:
    """A restic, and the repository of these tests."""

    def __init__(self, binary: Path, root: Path) -> None:
        self._program = binary
        self._root = root
        self._env = {
            "RESTIC_REPOSITORY": str(root / "repository"),
            "RESTIC_PASSWORD": PASSWORD,
            "HOME": str(root),
            "TZ": "UTC",
            "PATH": os.environ["PATH"],
        }

    def __call__(self, *words: str) -> str:
        done = subprocess.run(
            [str(self._program), *words],
            cwd=self._root,
            env=self._env,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout

    @property
    def keeps_oldest(self) -> bool:
        """Since 0.16 the oldest snapshot stays for a rule that has counts left."""
        found = re.search(r"restic (\d+)\.(\d+)", self("version"))
        assert found is not None
        return (int(found[1]), int(found[2])) >= (0, 16)

    def kept(self, policy: Policy) -> dict[str, set[str]]:
        """Moments that stay, by host."""
        counts = {
            "--keep-hourly": policy.hourly,
            "--keep-daily": policy.daily,
            "--keep-weekly": policy.weekly,
            "--keep-last": policy.last,
        }
        words = [word for name, count in counts.items() if count for word in (name, str(count))]
        groups = json.loads(self("forget", "--dry-run", "--json", "--no-cache", "--group-by", "host", *words))
        return {group["host"]: {_moment(one) for one in group["keep"] or ()} for group in groups}


def _moment(snapshot: dict[str, Any]) -> str:
    return datetime.fromisoformat(snapshot["time"]).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")


def histories(chance: random.Random) -> dict[str, list[datetime]]:
    """Moments in order: bunched within hours, spread over days or over weeks, regular with gaps."""
    found: dict[str, list[datetime]] = {}
    for number in range(HISTORIES):
        span = chance.choice((timedelta(hours=5), timedelta(days=4), timedelta(days=60)))
        begin = BEGIN + timedelta(hours=chance.randrange(24 * 40))
        count = chance.randint(1, 40)
        if number % 4:
            seconds = {chance.randrange(int(span.total_seconds())) for _ in range(count)}
        else:  # as a schedule makes them, some of its slots missed, on full hours, days and weeks
            every = chance.choice((900, 3600, 86_400, 7 * 86_400))
            begin = begin.replace(hour=0)
            seconds = {every * slot for slot in range(count) if chance.random() < 0.8} or {0}
        found[f"h{number}"] = [begin + timedelta(seconds=second) for second in sorted(seconds)]
    return found


TAKEN = histories(random.Random(53))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a repository that holds all histories."""
    root = tmp_path_factory.mktemp("restic")
    Restic(own(), root)("init")
    repository = Repository(root / "repository", PASSWORD)
    for host, moments in TAKEN.items():
        for at in moments:
            repository.add(host, at)
    return root


def own() -> Path:
    """0.14 in Debian 12."""
    return program("restic", "restic")


def newer() -> Path:
    """0.18."""
    return foreign("restic", "restic", "trixie")


@pytest.mark.parametrize("binary", [own, newer])
def test_what_restic_keeps_is_kept(root: Path, binary: Callable[[], Path]) -> None:
    restic = Restic(binary(), root)
    compared = removed = 0
    oldest = restic.keeps_oldest
    for policy in POLICIES:
        theirs = restic.kept(policy)
        assert set(theirs) == set(TAKEN)
        for host, moments in TAKEN.items():
            candidates = [Candidate(f"{at:%Y-%m-%dT%H:%M:%S}", at) for at in moments]
            ours = retain(policy, candidates, moments[-1], guards=False, oldest=oldest)
            assert {one.id for one in ours if one.keep} == theirs[host], (policy, host, moments)
            compared += 1
            removed += sum(not one.keep for one in ours)
    assert compared == len(POLICIES) * HISTORIES
    assert removed > HISTORIES  # a policy that keeps everything would agree, too
    assert oldest == (binary is newer)
