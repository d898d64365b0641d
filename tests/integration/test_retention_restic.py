"""Retention keeps what `restic forget` keeps, guards off: RESTIC_HISTORIES of them (default 40).

All histories are one repository, as snapshots of different hosts: restic forgets them in one go.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.debian import program

from phoenix_orch.recovery.retention import Candidate, Policy, retain

HISTORIES = int(os.environ.get("RESTIC_HISTORIES", "40"))
POLICIES = (
    Policy(24, 7, 4, 8),
    Policy(3, 2, 2, 0),
    Policy(0, 7, 0, 0),
    Policy(0, 0, 3, 1),
    Policy(2, 0, 5, 2),
)
BEGIN = datetime(2026, 12, 1, tzinfo=UTC)
"""Over the end of a year with 53 weeks."""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


class Restic:
    """One repository."""

    def __init__(self, root: Path) -> None:
        self._program = program("restic", "restic")
        self._root = root
        self._env = {
            "RESTIC_REPOSITORY": str(root / "repository"),
            "RESTIC_PASSWORD": "of a test",
            "HOME": str(root),
            "TZ": "UTC",
            "PATH": os.environ["PATH"],
        }
        (root / "file").write_text("the same each time")
        self("init")

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

    def backup(self, host: str, at: datetime) -> None:
        self("backup", "--quiet", "--no-cache", "--host", host, "--time", f"{at:%Y-%m-%d %H:%M:%S}", "file")

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
    """A few moments each: bunched within hours, spread over days or over weeks."""
    found: dict[str, list[datetime]] = defaultdict(list)
    for number in range(HISTORIES):
        span = chance.choice((timedelta(hours=5), timedelta(days=4), timedelta(days=60)))
        seconds = {chance.randrange(int(span.total_seconds())) for _ in range(chance.randint(1, 14))}
        begin = BEGIN + timedelta(hours=chance.randrange(24 * 40))
        found[f"h{number}"] = [begin + timedelta(seconds=second) for second in sorted(seconds)]
    return found


def test_what_restic_keeps_is_kept(tmp_path: Path) -> None:
    restic, chance = Restic(tmp_path), random.Random(53)
    taken = histories(chance)
    for host, moments in taken.items():
        for at in moments:
            restic.backup(host, at)
    compared = 0
    for policy in POLICIES:
        theirs = restic.kept(policy)
        assert set(theirs) == set(taken)
        for host, moments in taken.items():
            candidates = [Candidate(f"{at:%Y-%m-%dT%H:%M:%S}", at) for at in moments]
            ours = retain(policy, candidates, moments[-1], guards=False, oldest=restic.keeps_oldest)
            assert {one.id for one in ours if one.keep} == theirs[host], (policy, host, moments)
            compared += 1
    assert compared == len(POLICIES) * HISTORIES
