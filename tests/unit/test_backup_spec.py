"""The section `backup` of phoenix.yaml: what it refuses, and where its paths lead."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from phoenix_orch.kernel.config import ConfigError
from phoenix_orch.orchestrator.config import load
from phoenix_orch.recovery.retention import Policy
from phoenix_orch.recovery.spec import BackupSpec

SERVICES = """\
services:
  web: {command: [web, --port, "{port}"], version: "1"}
routes:
  web: {service: web}
"""
ONLINE = f"{{name: here, key: age1{'q' * 58}}}"
SAFE = f"{{name: safe, key: age1{'p' * 58}, offline: true}}"


def written(folder: Path, backup: str) -> Path:
    path = folder / "phoenix.yaml"
    path.write_text(f"{SERVICES}backup:\n{backup}")
    return path


def test_the_guides_retention_and_schedules_are_what_is_left_out(tmp_path: Path) -> None:
    backup = load(written(tmp_path, f"  recipients: [{ONLINE}, {SAFE}]\n")).backup
    assert backup is not None
    assert backup.retention.policy == Policy(hourly=24, daily=7, weekly=4, last=8)
    assert backup.schedule.of("redis/cache") == timedelta(minutes=15)
    assert backup.schedule.of("config") == timedelta(hours=1)
    assert backup.schedule.of("volume/data") == timedelta(hours=2)


def test_what_was_left_out_can_be_read_back_once_it_was_kept(tmp_path: Path) -> None:
    backup = load(written(tmp_path, f"  recipients: [{ONLINE}, {SAFE}]\n")).backup
    assert backup is not None
    assert BackupSpec.model_validate_json(backup.model_dump_json()) == backup


def test_paths_are_taken_from_where_the_file_is(tmp_path: Path) -> None:
    text = f"  recipients: [{ONLINE}, {SAFE}]\n  storage: {{folder: safe/box}}\n  identityFile: key.txt\n"
    backup = load(written(tmp_path, text)).backup
    assert backup is not None
    assert backup.storage.folder == str(tmp_path / "safe" / "box")
    assert backup.identity_file == str(tmp_path / "key.txt")
    text = f"  recipients: [{ONLINE}, {SAFE}]\n  storage: {{s3: {{bucket: box, caFile: ca.pem}}}}\n"
    backup = load(written(tmp_path, text)).backup
    assert backup is not None
    assert backup.storage.s3 is not None
    assert backup.storage.s3.ca_file == str(tmp_path / "ca.pem")


REFUSED: dict[str, tuple[str, str]] = {
    "a key of KMS without KMS": (
        f"  recipients: [{ONLINE}, {SAFE}]\n  storage: {{s3: {{bucket: box, sse: AES256, kmsKey: mine}}}}\n",
        "kmsKey is for sse: aws:kms",
    ),
    "one recipient": (f"  recipients: [{SAFE}]\n", "backup.recipients"),
    "none offline": (
        f"  recipients: [{ONLINE}, {ONLINE.replace('here', 'there').replace('q', 'z')}]\n",
        "at least one recipient is offline",
    ),
    "all offline": (
        f"  recipients: [{SAFE}, {SAFE.replace('safe', 'vault').replace('p', 'z')}]\n",
        "at least one recipient is offline",
    ),
    "the same key twice": (
        f"  recipients: [{ONLINE}, {SAFE.replace('p' * 58, 'q' * 58)}]\n",
        "the same name or key",
    ),
    "no key": (
        f"  recipients: [{ONLINE}, {{name: safe, key: secret, offline: true}}]\n",
        "recipients[1].key",
    ),
    "two storages": (
        f"  recipients: [{ONLINE}, {SAFE}]\n  storage: {{folder: x, s3: {{bucket: box}}}}\n",
        "not in both",
    ),
    "a retention of nothing": (
        f"  recipients: [{ONLINE}, {SAFE}]\n  retention: {{hourly: 0, daily: 0, weekly: 0, keepLast: 0}}\n",
        "keeps nothing",
    ),
    "a prefix without its slash": (
        f"  recipients: [{ONLINE}, {SAFE}]\n  storage: {{s3: {{bucket: box, prefix: team}}}}\n",
        "backup.storage.s3.prefix",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_could_lose_backups_is_refused_at_its_line(tmp_path: Path, case: str) -> None:
    text, said = REFUSED[case]
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, text))
    found: Any = caught.value
    assert said in str(found)
    assert all(problem.line for problem in found.problems)
