"""kill -9 before every write of a backup of configuration: old or new, and the next backup is whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.recovery_outcomes import seen

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_backup_leaves_old_or_new(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.config_killed", str(tmp_path)],
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=580,
    )
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    assert counts.keys() == {"nothing", "one_before", "torn"}
    assert all(count > 15 for count in counts.values()), counts
    for before in counts:
        seen(
            "A backup of configuration",
            "kill -9",
            f"before each write of its Git repository, {before.replace('_', ' ')}",
            leaves="the last commit, or the new one",
            then="the next backup is whole",
        )
