"""The audit log beside the backups: the same lines, in order, and never anything that does not follow."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path

import pytest

from phoenix_orch.kernel.errors import Conflict, Terminal
from phoenix_orch.orchestrator import audit_mirror
from phoenix_orch.orchestrator.audit_mirror import mirrored, parts
from phoenix_orch.recovery.folder_store import FolderStore
from phoenix_orch.recovery.keys import Recipient, generate
from phoenix_orch.recovery.pipeline import unseal
from phoenix_orch.security.audit_chain import Entry, Outcome
from phoenix_orch.security.audit_log import AuditLog

PREFIX = "audit/local/default/"
OFFLINE = generate()
RECIPIENTS = [Recipient(generate().public, "online"), Recipient(OFFLINE.public, "recovery", offline=True)]


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    return AuditLog(tmp_path / "audit", largest=2000)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "storage")


def entries(number: int, note: str = "") -> list[Entry]:
    return [
        Entry(
            at=datetime(2026, 3, 1, 12, 0, one % 60, tzinfo=UTC),
            actor="ann",
            action="rollout.abort",
            target=f"rollout/shop-{one}",
            reason=f"{note} it fails: {one} ✓",
            before={"weight": one / 7, "of": [1, None, "x"]},
            outcome=Outcome.DONE,
        )
        for one in range(number)
    ]


def opened(store: FolderStore) -> bytes:
    """All lines of the mirror, by the offline key."""
    whole = io.BytesIO()
    for part in parts(store, PREFIX):
        with store.reader(PREFIX + part.name) as sealed:
            unseal(sealed, whole, [OFFLINE], None)
    return whole.getvalue()


def lines(log: AuditLog) -> bytes:
    return b"".join(file.read_bytes() for file in log.files())


def test_the_mirror_holds_the_lines_of_the_log(
    log: AuditLog, store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_mirror, "LARGEST", 1000)
    assert mirrored(log, store, PREFIX, RECIPIENTS).through == 0
    log.append(entries(20))
    done = mirrored(log, store, PREFIX, RECIPIENTS)
    assert (done.records, done.through) == (20, 20)
    assert mirrored(log, store, PREFIX, RECIPIENTS).records == 0
    log.append(entries(7, "again"))
    done = mirrored(log, store, PREFIX, RECIPIENTS)
    assert (done.records, done.through) == (7, 27)
    found = parts(store, PREFIX)
    assert len(found) > 3
    assert [part.first for part in found[1:]] == [part.last + 1 for part in found[:-1]]
    assert opened(store) == lines(log)


def test_a_log_that_was_cut_or_altered_is_told_of(log: AuditLog, store: FolderStore, tmp_path: Path) -> None:
    log.append(entries(10))
    mirrored(log, store, PREFIX, RECIPIENTS)
    before = parts(store, PREFIX)
    shorter = AuditLog(tmp_path / "other")
    shorter.append(entries(4))
    with pytest.raises(Terminal, match="cut or made anew"):
        mirrored(shorter, store, PREFIX, RECIPIENTS)
    shorter.append(entries(9, "another"))
    with pytest.raises(Terminal, match="does not follow record 10"):
        mirrored(shorter, store, PREFIX, RECIPIENTS)
    log.append(entries(3))
    newest = log.files()[-1]
    newest.write_bytes(newest.read_bytes().replace(b"it fails", b"it works"))
    with pytest.raises(Terminal, match="does not have its hash"):
        mirrored(log, store, PREFIX, RECIPIENTS)
    assert parts(store, PREFIX) == before


def test_a_record_that_cannot_be_read_is_no_gap(log: AuditLog, store: FolderStore) -> None:
    log.append(entries(3))
    first = log.files()[0]
    written = first.read_bytes().splitlines(keepends=True)
    written[1] = b"#" * (len(written[1]) - 1) + b"\n"
    first.write_bytes(b"".join(written))
    with pytest.raises(Terminal, match="record 3 of the audit log does not follow record 1"):
        mirrored(log, store, PREFIX, RECIPIENTS)
    assert parts(store, PREFIX) == []


def test_another_replica_is_left_to_it(
    log: AuditLog, store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.append(entries(3))

    def taken(key: str, data: bytes) -> None:
        raise Conflict(f"{key} is there")

    monkeypatch.setattr(store, "create", taken)
    done = mirrored(log, store, PREFIX, RECIPIENTS)
    assert (done.records, done.through) == (0, 0)
