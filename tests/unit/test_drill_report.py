"""The verdict of a drill, its evidence, what it is compared with, and how it is kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from phoenix_orch.kernel.errors import Conflict, Invalid, NotFound
from phoenix_orch.kernel.ids import sortable_id
from phoenix_orch.recovery import drill_record
from phoenix_orch.recovery.drill_report import (
    Kind,
    Phase,
    Report,
    Rpo,
    Step,
    against,
    evidence,
    markdown,
    projected,
    sealed,
    trend,
)
from phoenix_orch.recovery.folder_store import FolderStore
from phoenix_orch.recovery.signing import Ed25519Signer, Tampered, Trust

AT = datetime(2026, 11, 28, 12, tzinfo=UTC)
SIGNER = Ed25519Signer(Ed25519PrivateKey.generate())
TRUST = Trust([SIGNER.public])
STEPS = (
    Step(phase=Phase.LOCATE, component="redis", passed=True, seconds=1),
    Step(phase=Phase.DOWNLOAD, component="redis", backup="b", passed=True, seconds=4, bytes=1000),
    Step(phase=Phase.LOAD, component="redis", backup="b", passed=True, seconds=5, bytes=4000),
)


def report(
    *, at: datetime = AT, seconds: float = 10, passed: bool = True, kind: Kind = Kind.MONTHLY
) -> Report:
    return sealed(
        Report(
            id=sortable_id(at),
            kind=kind,
            cluster="local",
            namespace="default",
            started=at,
            ended=at + timedelta(seconds=seconds),
            by="ann",
            host="here",
            phoenix="1",
            steps=STEPS,
            rto=seconds,
            rto_target=1800,
            reasons=() if passed else ("load redis: a | b\nc",),
            passed=passed,
        )
    )


def test_every_reason_is_named():
    broken = STEPS[1].model_copy(update={"passed": False, "detail": "cut"})
    rpo = [
        Rpo(component="redis", achieved=7200, target=1800),
        Rpo(component="config", target=60),
        Rpo(component="volume", achieved=60, target=60),
    ]
    assert against([STEPS[0], broken], rpo, 3000, 1800) == [
        "download redis: cut",
        "RPO of redis: 2.0 h would have been lost, and 30 min is the target",
        "RPO of config: nothing can be recovered",
        "RTO: recovery took 50 min, and 30 min is the target",
    ]
    assert against(STEPS, [], 1800, 1800) == []
    assert against([], [], 0, None) == ["nothing was rehearsed"]


def test_evidence_is_of_everything_else():
    one = report()
    assert evidence(one) == one.evidence
    for change in ({"rto": 9.0}, {"by": "bob"}, {"passed": False}, {"steps": STEPS[:2]}):
        assert evidence(one.model_copy(update=change)) != one.evidence


def test_times_grow_with_the_data_that_is_moved():
    assert projected(report(), 1) == 10
    assert projected(report(), 10) == 91
    assert report().bytes == 4000
    assert "10 times the data would take 2 min" in markdown(report())


def test_the_trend_is_of_drills_of_its_kind():
    former = [report(at=AT - timedelta(days=30 * n), seconds=n + 4) for n in (1, 2, 3)]
    assert trend(report(), []) == "the first drill of its kind"
    assert trend(report(), [report(kind=Kind.WEEKLY)]) == "the first drill of its kind"
    assert trend(report(seconds=6), former) == "3 of the last 3 passed, in 6.0 s as a rule"
    assert trend(report(seconds=12), former).endswith("; this one took 2.0 times as long")
    failing = [report(at=AT - timedelta(days=1), passed=False)]
    assert trend(report(), failing) == "none of the last 1 passed"


def test_a_page_holds_its_table_together():
    page = markdown(report(passed=False))
    assert "# Monthly drill of 2026-11-28 12:00 UTC: FAIL" in page
    assert "- load redis: a \\| b c\n" in page


def test_reports_are_kept_and_found(tmp_path: Path):
    store = FolderStore(tmp_path)
    kept = [report(at=AT - timedelta(days=n)) for n in range(3)]
    for one in kept:
        drill_record.put(store, one, SIGNER)
        drill_record.put(store, one, SIGNER)  # an answer that was lost
    assert drill_record.reports(store, TRUST, 2) == (kept[:2], [])
    assert drill_record.one(store, TRUST) == kept[0]
    assert drill_record.one(store, TRUST, kept[2].id) == kept[2]
    with pytest.raises(NotFound):
        drill_record.one(store, TRUST, "zz")
    with pytest.raises(Invalid):
        drill_record.one(store, TRUST, "1")
    with pytest.raises(Conflict):
        drill_record.put(store, kept[0].model_copy(update={"by": "bob"}), SIGNER)


def test_what_was_changed_is_refused_and_the_others_are_read(tmp_path: Path):
    store = FolderStore(tmp_path)
    good, bad = report(), report(at=AT + timedelta(hours=1))
    drill_record.put(store, good, SIGNER)
    key = drill_record.put(store, bad, Ed25519Signer(Ed25519PrivateKey.generate()))
    with pytest.raises(Tampered):
        drill_record.read(store, key, TRUST)
    found, faults = drill_record.reports(store, TRUST, 10)
    assert found == [good]
    assert "is not trusted" in faults[0]
    lying = bad.model_copy(update={"passed": False})
    store.delete(key)
    drill_record.put(store, lying, SIGNER)
    with pytest.raises(Tampered, match="evidence"):
        drill_record.read(store, key, TRUST)


def test_reports_go_when_their_time_is_over(tmp_path: Path):
    store = FolderStore(tmp_path)
    for days in (0, 399, 401, 500):
        drill_record.put(store, report(at=AT - timedelta(days=days)), SIGNER)
    assert drill_record.expire(store, timedelta(days=400), AT) == 2
    assert len(drill_record.keys(store)) == 2


def test_there_is_none_yet(tmp_path: Path):
    with pytest.raises(NotFound) as error:
        drill_record.one(FolderStore(tmp_path), TRUST)
    assert "phoenix drill run" in error.value.remedy
