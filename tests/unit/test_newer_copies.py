"""What is told of newer copies that a restore does not take, and what a copy before a restore stands for."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from phoenix_orch.cli.main import run
from phoenix_orch.orchestrator.redis_restore import _newer
from phoenix_orch.recovery.catalog import Backup
from phoenix_orch.recovery.manifest import Drop, Level, Manifest, Times, Trigger, TriggerKind, Verification
from phoenix_orch.recovery.objects import Stat
from phoenix_orch.recovery.restore.copies import Taken, passed_over

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)


def backup(hour: int, component: str = "redis/cache", **more: Any) -> Backup:
    moment, name = NOON + timedelta(hours=hour), f"b{hour}"
    look = Verification(
        backup=name,
        manifest="m",
        level=Level.OPENED,
        passed=True,
        at=moment,
        by="x",
        seconds=0,
        bytes=1,
    )
    manifest = Manifest.model_construct(
        id=name,
        component=component,
        time=Times.model_construct(consistency_point=moment),
        drops=more.pop("drops", ()),
        trigger=Trigger(kind=more.pop("kind", TriggerKind.SCHEDULE)),
        stream=type("S", (), {"stored_bytes": 1})(),
    )
    stat = Stat(key="k", size=1, modified=moment, etag="e")
    return replace(Backup(manifest, "sha", stat, verifications=(look,)), **more)


DROP = Drop(measure="keys", value=1, median=100)


def test_newer_copies_that_do_not_count_are_told() -> None:
    taken, shrunk, unverified = backup(0), backup(1, drops=(DROP,)), backup(2, verifications=())
    others = [
        backup(-1, drops=(DROP,)),
        backup(3, "config", drops=(DROP,)),
        backup(4, kind=TriggerKind.PRE_RESTORE),
    ]
    found = passed_over([taken, shrunk, unverified, *others], [Taken(taken)])
    assert found == [unverified, shrunk]
    (look,) = _newer(found)
    assert look.found == "b2 of 2026-11-28 14:00:00 UTC is not verified, and is not taken; 1 more"
    (look,) = _newer([shrunk])
    assert look.found == "b1 of 2026-11-28 13:00:00 UTC is much smaller than those before, and is not taken"
    assert _newer([]) == []


def test_what_a_restore_wrote_over_may_be_small() -> None:
    assert backup(0, drops=(DROP,)).shrunk
    safety = backup(0, drops=(DROP,), kind=TriggerKind.PRE_RESTORE)
    assert not safety.shrunk
    assert safety.before_restore


@pytest.mark.parametrize(
    "words",
    [
        ["backup", "list"],
        ["backup", "pin", "x", "--reason", "y"],
        ["backup", "prune"],
        ["drill", "list"],
        ["drill", "run", "daily"],
        ["keys", "show"],
        ["keys", "check"],
        ["doctor"],
        ["down"],
    ],
    ids=" ".join,
)
def test_what_is_of_this_machine_is_not_taken_for_a_server(
    words: list[str], tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--server", "http://127.0.0.1:9", "--data-dir", str(tmp_path)]
    assert run([*where, *words]) == 2
    said = capsys.readouterr().err
    assert "of this machine, and --server (or PHOENIX_URL) names another" in said
    assert list(tmp_path.iterdir()) == []
